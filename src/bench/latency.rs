//! Latency against load: the same node under one offered rate after the other, open loop, until it
//! does no longer keep up.

use super::chart::{Labels, Series, draw_load, draw_percentiles, nines};
use super::wire::{Journey, Wire, WireError};
use crate::telemetry::Progress;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2Serializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// One offered rate and what came of it.
pub struct Step {
    /// Commands a second, as planned.
    pub offered: u64,
    /// What each stage took, and the total, from each planned moment.
    pub journey: Journey,
    /// When it began.
    pub began: SystemTime,
    /// How long it took.
    pub lasted: Duration,
}

impl Step {
    /// Whether the node did nearly as much as was offered.
    pub fn kept_up(&self) -> bool {
        self.journey.per_second >= self.offered as f64 * 0.95
    }
}

/// Offers 1, 2, 5, 10 thousand a second and so on up to two million.
pub const LADDER: [u64; 11] = [
    1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000,
];

/// Offers each rate for `time` until the first that the node does not keep up with, which is the last.
/// A pause before each lets what the one before left behind drain.
pub fn climb(
    wire: &mut Wire,
    progress: &Progress,
    rates: &[u64],
    time: Duration,
    mut on_step: impl FnMut(&Step),
) -> Result<Vec<Step>, WireError> {
    let mut steps = Vec::new();
    for offered in rates.iter().copied() {
        std::thread::sleep(Duration::from_millis(100));
        let count = (offered as f64 * time.as_secs_f64()).ceil() as u64;
        // The first commands meet a node that slept; they are no part of a steady load.
        wire.journeys((count / 10).max(1), offered, progress)?;
        let began = SystemTime::now();
        let journey = wire.journeys(count.max(1), offered, progress)?;
        let step = Step {
            offered,
            journey,
            began,
            lasted: began.elapsed().unwrap_or_default(),
        };
        on_step(&step);
        let kept_up = step.kept_up();
        steps.push(step);
        if !kept_up {
            break;
        }
    }
    Ok(steps)
}

/// Writes an HDR log (version 2, as HistogramLogAnalyzer and hdr-plot read it): one line for the
/// total and one for each stage of each step, tagged `RATE/STAGE`. Values are nanoseconds.
///
/// # Errors
/// What kept the file from being written.
pub fn write_hdr_log(path: &Path, steps: &[Step]) -> Result<(), String> {
    let write = || -> Result<(), Box<dyn std::error::Error>> {
        let mut file = BufWriter::new(File::create(path)?);
        let mut serializer = V2Serializer::new();
        let begin = steps
            .first()
            .map_or_else(SystemTime::now, |step| step.began);
        let mut log = IntervalLogWriterBuilder::new()
            .add_comment("millrace bench latency; values are ns, from each planned moment")
            .with_start_time(begin)
            .begin_log_with(&mut file, &mut serializer)?;
        for step in steps {
            let start = step.began.duration_since(begin).unwrap_or_default();
            let named = step.journey.stages.iter();
            let named = named.map(|(name, histogram)| (*name, histogram));
            for (name, histogram) in named.chain([("total", &step.journey.total)]) {
                let tag = format!("{}/{}", step.offered, name.replace(' ', "_"));
                let tag = Tag::new(&tag).ok_or("a tag has no spaces")?;
                log.write_histogram(histogram, start, step.lasted, Some(tag))?;
            }
        }
        Ok(())
    };
    write().map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Draws median and tail over the offered rate.
///
/// # Errors
/// What kept the file from being written.
pub fn draw_over_load(path: &Path, title: &str, steps: &[Step]) -> Result<(), String> {
    let points = |quantile: f64| -> Vec<(f64, f64)> {
        let of = |step: &Step| step.journey.total.value_at_quantile(quantile) as f64;
        steps
            .iter()
            .map(|step| (step.offered as f64, of(step)))
            .collect()
    };
    let lines = [
        ("p50", points(0.5)),
        ("p99", points(0.99)),
        ("p99.9", points(0.999)),
    ];
    let series: Vec<Series<'_>> = lines
        .iter()
        .map(|(name, points)| Series { name, points })
        .collect();
    let labels = Labels {
        title,
        x: "commands a second offered",
        y: "planned moment to reply",
    };
    draw_load(path, &labels, &series)
}

/// Draws each rate's latencies over their percentiles, as far as it has a hundred beyond one.
///
/// # Errors
/// What kept the file from being written.
pub fn draw_distributions(path: &Path, title: &str, steps: &[Step]) -> Result<(), String> {
    let lines: Vec<(String, Vec<(f64, f64)>)> = steps
        .iter()
        .map(|step| {
            let name = match step.kept_up() {
                true => format!("{}/s", step.offered),
                false => format!(
                    "{}/s offered, {:.0}/s done",
                    step.offered, step.journey.per_second
                ),
            };
            (name, distribution(&step.journey.total))
        })
        .collect();
    let series: Vec<Series<'_>> = lines
        .iter()
        .map(|(name, points)| Series { name, points })
        .collect();
    let labels = Labels {
        title,
        x: "percentile",
        y: "planned moment to reply",
    };
    draw_percentiles(path, &labels, &series)
}

/// A histogram as points over [`nines`], ten to a decade, while ten values lie beyond.
fn distribution(latency: &Histogram<u64>) -> Vec<(f64, f64)> {
    let mut points = Vec::new();
    for tenth in 0.. {
        let beyond = 10f64.powf(f64::from(tenth) / 10.0);
        if latency.len() as f64 / beyond < 10.0 {
            break;
        }
        let quantile = 1.0 - 1.0 / beyond;
        points.push((nines(quantile), latency.value_at_quantile(quantile) as f64));
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::histogram;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    fn step(offered: u64, done: f64) -> Step {
        let mut total = histogram();
        (1..=1_000).for_each(|us| total.saturating_record(us * 1_000));
        Step {
            offered,
            journey: Journey {
                stages: std::array::from_fn(|at| {
                    (["a", "b c", "d", "e", "f", "g"][at], total.clone())
                }),
                total,
                per_second: done,
                in_flight_peak: 1,
            },
            began: SystemTime::now(),
            lasted: Duration::from_secs(1),
        }
    }

    #[test]
    fn a_log_holds_every_stage_of_every_step() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.hlog");
        write_hdr_log(&path, &[step(1_000, 1_000.0), step(2_000, 1_500.0)]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let mut tags = Vec::new();
        for entry in IntervalLogIterator::new(&bytes) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                tags.push(interval.tag().unwrap().as_str().to_string());
            }
        }
        assert_eq!(tags.len(), 14);
        assert_eq!(tags[1], "1000/b_c");
        assert_eq!(tags[13], "2000/total");
    }

    #[test]
    fn the_distribution_ends_where_too_few_values_lie_beyond() {
        let step = step(1_000, 900.0);
        assert!(!step.kept_up());
        let points = distribution(&step.journey.total);
        assert_eq!(points[0], (1.0, 1_000.0));
        let (last, _) = points[points.len() - 1];
        assert!((99.0..=101.0).contains(&last), "{last}");
    }
}
