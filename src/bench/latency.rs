//! Latency against load: the same node under one offered rate after the other, open loop, until it
//! does no longer keep up.

use super::chart::{Labels, draw_load, draw_percentiles, nines, series};
use super::has_tail;
use super::wire::{Journey, Wire, WireError};
use crate::telemetry::Progress;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// One offered rate and what came of it.
pub struct Step {
    /// Commands a second, as planned.
    pub offered: u64,
    /// Commands of the step.
    pub count: u64,
    /// What each stage took, and the total, from each planned moment.
    pub journey: Journey,
    /// When it began.
    pub began: SystemTime,
    /// How long it took.
    pub lasted: Duration,
}

impl Step {
    /// Whether the node did nearly as much as was offered, and left no backlog that grows: however long
    /// the step is, what waited when its last command was planned was done [`BACKLOG_MAX`] later.
    pub fn kept_up(&self) -> bool {
        self.journey.per_second >= self.offered as f64 * 0.95 && self.drained_in() <= BACKLOG_MAX
    }

    /// From the moment the last command was planned for to the last reply.
    pub fn drained_in(&self) -> Duration {
        let took = self.count as f64 / self.journey.per_second;
        let planned = self.count.saturating_sub(1) as f64 / self.offered as f64;
        Duration::try_from_secs_f64(took - planned).unwrap_or_default()
    }
}

/// How long after the last planned moment the last reply may come from a node that keeps up.
pub const BACKLOG_MAX: Duration = Duration::from_millis(100);

/// Offers 1, 2, 5, 10 thousand a second and so on up to two million.
pub const LADDER: [u64; 11] = [
    1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000,
];

/// Offers each rate for `time` until the first that the node does not keep up with, which is the last.
/// A pause before each lets what the one before left behind drain. Returns the steps done, and what
/// ended them early.
pub fn climb(
    wire: &mut Wire,
    progress: &Progress,
    rates: &[u64],
    time: Duration,
    mut on_step: impl FnMut(&Step),
) -> (Vec<Step>, Result<(), WireError>) {
    let mut steps = Vec::new();
    for offered in rates.iter().copied() {
        let step = match climb_one(wire, progress, offered, time) {
            Ok(step) => step,
            Err(error) => return (steps, Err(error)),
        };
        on_step(&step);
        let kept_up = step.kept_up();
        steps.push(step);
        if !kept_up {
            break;
        }
    }
    (steps, Ok(()))
}

fn climb_one(
    wire: &mut Wire,
    progress: &Progress,
    offered: u64,
    time: Duration,
) -> Result<Step, WireError> {
    std::thread::sleep(Duration::from_millis(100));
    let count = ((offered as f64 * time.as_secs_f64()).ceil() as u64).max(1);
    // The first commands meet a node that slept; they are no part of a steady load.
    wire.journeys((count / 10).max(1), offered, progress)?;
    let began = SystemTime::now();
    let journey = wire.journeys(count, offered, progress)?;
    Ok(Step {
        offered,
        count,
        journey,
        began,
        lasted: began.elapsed().unwrap_or_default(),
    })
}

/// Writes an HDR interval log of compressed V2 histograms, as HistogramLogAnalyzer and the libraries in
/// Java and Python read it (hdr-plot reads tables of percentiles, `.hgrm`, which those make of it): one
/// line for each stage and one for the total of each step, tagged `RATE/STAGE`. Values are nanoseconds,
/// the column of the largest is milliseconds.
///
/// # Errors
/// What kept the file from being written.
pub fn write_hdr_log(path: &Path, steps: &[Step]) -> Result<(), String> {
    let write = || -> Result<(), Box<dyn std::error::Error>> {
        let mut file = BufWriter::new(File::create(path)?);
        let mut serializer = V2DeflateSerializer::new();
        let begin = steps
            .first()
            .map_or_else(SystemTime::now, |step| step.began);
        let mut head = IntervalLogWriterBuilder::new();
        head.add_comment("[millrace bench latency; values are ns, from each planned moment]")
            .add_comment("[Histogram log format version 1.3]")
            .with_start_time(begin)
            .with_max_value_divisor(1e6)
            .begin_log_with(&mut file, &mut serializer)?;
        writeln!(file, "{LEGEND}")?;
        let mut log = IntervalLogWriterBuilder::new()
            .with_max_value_divisor(1e6)
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
        file.flush()?;
        Ok(())
    };
    write().map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// The names of a log's columns, for those who open it as a table.
const LEGEND: &str =
    "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"";

/// Draws median and tail over the offered rate.
///
/// # Errors
/// What kept the file from being written.
pub fn draw_over_load(path: &Path, title: &str, steps: &[Step]) -> Result<(), String> {
    let points = |quantile: f64| -> Vec<(f64, f64)> {
        let of = |step: &Step| step.journey.total.value_at_quantile(quantile) as f64;
        steps
            .iter()
            .filter(|step| has_tail(&step.journey.total, quantile))
            .map(|step| (step.offered as f64, of(step)))
            .collect()
    };
    let lines = [
        ("p50", points(0.5)),
        ("p99", points(0.99)),
        ("p99.9", points(0.999)),
    ];
    let labels = Labels {
        title,
        x: "commands a second offered",
        y: "planned moment to reply",
    };
    draw_load(path, &labels, &series(&lines))
}

/// Draws each rate's latencies over their percentiles, as far as ten values lie beyond one.
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
    let labels = Labels {
        title,
        x: "percentile",
        y: "planned moment to reply",
    };
    draw_percentiles(path, &labels, &series(&lines))
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
            count: 1_000,
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
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.contains("#[Histogram log format version 1.3]\n"));
        // What the libraries in Java and Python read begins so: compressed.
        assert_eq!(text.matches(",1.000,1.000,HISTFAAA").count(), 14, "{text}");
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
    fn a_backlog_that_grows_is_seen_however_long_the_step_is() {
        // One in a hundred too many is 0.1 s of work after ten seconds, 0.6 s after a minute.
        for (seconds, kept_up) in [(1, true), (9, true), (12, false), (60, false)] {
            let step = Step {
                count: 1_000 * seconds,
                ..step(1_000, 990.0)
            };
            assert_eq!(
                step.kept_up(),
                kept_up,
                "{seconds}: {:?}",
                step.drained_in()
            );
        }
        assert!(!step(1_000, 940.0).kept_up());
        assert!(step(1_000, 1_000.0).kept_up());
    }

    #[test]
    fn steps_of_a_few_commands_are_not_drawn() {
        let dir = tempfile::tempdir().unwrap();
        let mut few = step(5, 5.0);
        few.journey.total.reset();
        few.journey.total.saturating_record(1_000);
        let steps = [few];
        let path = dir.path().join("a.svg");
        for drawn in [
            draw_over_load(&path, "title", &steps),
            draw_distributions(&path, "title", &steps),
        ] {
            assert!(drawn.unwrap_err().contains("too few"));
        }
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
