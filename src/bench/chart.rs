//! Pictures of measurements, as SVG: for docs, and for whoever would rather look than read.

use plotters::coord::ranged1d::Ranged;
use plotters::prelude::*;
use std::path::Path;

/// One line of a chart.
pub struct Series<'a> {
    /// What it shows.
    pub name: &'a str,
    /// Points from left to right.
    pub points: &'a [(f64, f64)],
}

/// Lines by their names and points.
pub fn series<N: AsRef<str>>(lines: &[(N, Vec<(f64, f64)>)]) -> Vec<Series<'_>> {
    lines
        .iter()
        .map(|(name, points)| Series {
            name: name.as_ref(),
            points,
        })
        .collect()
}

/// What a chart says besides its lines.
pub struct Labels<'a> {
    /// Above it.
    pub title: &'a str,
    /// Below it.
    pub x: &'a str,
    /// On its left.
    pub y: &'a str,
}

/// Draws lines over a logarithmic x axis, y from zero.
///
/// # Errors
/// What kept the file from being written.
pub fn draw_growth(path: &Path, labels: &Labels<'_>, series: &[Series<'_>]) -> Result<(), String> {
    let cannot = |why| format!("cannot draw {}: {why}", path.display());
    let (low, high) = bounds(series, |(x, _)| *x).map_err(cannot)?;
    let (_, top) = bounds(series, |(_, y)| *y).map_err(cannot)?;
    let (low, high) = logarithmic(low, high).map_err(cannot)?;
    let top = top.max(1.0) * 1.15;
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        let root = SVGBackend::new(path, (760, 420)).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(labels.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(60)
            .build_cartesian_2d((low..high).log_scale(), 0.0..top)?;
        chart
            .configure_mesh()
            .light_line_style(BLACK.mix(0.06))
            .x_desc(labels.x)
            .y_desc(labels.y)
            .x_label_formatter(&|x| thousands(*x))
            .y_label_formatter(&|y| format!("{y:.0}"))
            .draw()?;
        draw_lines(&mut chart, series, 3)?;
        root.present()?;
        Ok(())
    };
    draw().map_err(|error| format!("cannot draw {}: {error}", path.display()))
}

/// Draws latencies, ns, over the load that was offered: both axes logarithmic.
///
/// # Errors
/// What kept the file from being written.
pub fn draw_load(path: &Path, labels: &Labels<'_>, series: &[Series<'_>]) -> Result<(), String> {
    draw_latencies(path, labels, series, &|x| thousands(x))
}

/// Draws latencies, ns, over their percentiles. The points' x is [`nines`] of the quantile, so that
/// the tail has as much room as the middle.
///
/// # Errors
/// What kept the file from being written.
pub fn draw_percentiles(
    path: &Path,
    labels: &Labels<'_>,
    series: &[Series<'_>],
) -> Result<(), String> {
    draw_latencies(path, labels, series, &percent)
}

/// How many of them lie for each one that lies beyond the quantile: 10 at 0.9, 100 at 0.99.
pub fn nines(quantile: f64) -> f64 {
    1.0 / (1.0 - quantile)
}

fn draw_latencies(
    path: &Path,
    labels: &Labels<'_>,
    series: &[Series<'_>],
    x_label: &dyn Fn(f64) -> String,
) -> Result<(), String> {
    let cannot = |why| format!("cannot draw {}: {why}", path.display());
    let (left, right) = bounds(series, |(x, _)| *x).map_err(cannot)?;
    let (low, high) = bounds(series, |(_, y)| *y).map_err(cannot)?;
    let (left, right) = logarithmic(left, right).map_err(cannot)?;
    let bottom = 10f64.powf(low.max(1.0).log10().floor());
    let top = high.max(bottom) * 1.5;
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        let root = SVGBackend::new(path, (760, 420)).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(labels.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(70)
            .build_cartesian_2d((left..right).log_scale(), (bottom..top).log_scale())?;
        chart
            .configure_mesh()
            .light_line_style(BLACK.mix(0.06))
            .x_desc(labels.x)
            .y_desc(labels.y)
            .x_label_formatter(&|x| x_label(*x))
            .y_label_formatter(&|y| time(*y))
            .draw()?;
        draw_lines(&mut chart, series, 0)?;
        root.present()?;
        Ok(())
    };
    draw().map_err(|error| format!("cannot draw {}: {error}", path.display()))
}

/// The least and the largest of all points; no axis is laid over none, or over what is no number: the
/// search for its ticks would not end.
fn bounds(series: &[Series<'_>], of: fn(&(f64, f64)) -> f64) -> Result<(f64, f64), &'static str> {
    let all = || series.iter().flat_map(|series| series.points).map(of);
    if !all().all(f64::is_finite) {
        return Err("a point is no number");
    }
    match all().next() {
        Some(first) => Ok(all().fold((first, first), |(low, high), value| {
            (low.min(value), high.max(value))
        })),
        None => Err("too few values for one point"),
    }
}

/// The bounds of a logarithmic axis: from above zero, and over something.
fn logarithmic(low: f64, high: f64) -> Result<(f64, f64), &'static str> {
    match low > 0.0 {
        true => Ok((low, high.max(low * 2.0))),
        false => Err("a logarithmic axis has no zero"),
    }
}

/// Draws the lines, with dots of so many pixels on their points, and the box that names them.
fn draw_lines<'a, X, Y>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    series: &[Series<'_>],
    dots: u32,
) -> Result<(), Box<dyn std::error::Error>>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    for (at, series) in series.iter().enumerate() {
        let color = Palette99::pick(at).mix(0.9);
        let line = LineSeries::new(series.points.iter().copied(), color.stroke_width(2));
        chart
            .draw_series(line.point_size(dots))?
            .label(series.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}

/// A round number of nanoseconds in few letters.
fn time(ns: f64) -> String {
    match ns {
        ns if ns >= 1e9 => format!("{:.0} s", ns / 1e9),
        ns if ns >= 1e6 => format!("{:.0} ms", ns / 1e6),
        ns if ns >= 1e3 => format!("{:.0} us", ns / 1e3),
        ns => format!("{ns:.0} ns"),
    }
}

/// The percentile beyond which one in `nines` lies.
fn percent(nines: f64) -> String {
    if nines < 1.5 {
        return "0 %".into();
    }
    let decimals = (nines.log10().round() as usize).saturating_sub(2);
    format!("{:.*} %", decimals, 100.0 - 100.0 / nines)
}

/// A round number in few letters.
fn thousands(x: f64) -> String {
    match x {
        x if x >= 1e6 => format!("{:.0} M", x / 1e6),
        x if x >= 1e3 => format!("{:.0} k", x / 1e3),
        x => format!("{x:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_labelled_for_people() {
        assert_eq!(percent(nines(0.0)), "0 %");
        assert_eq!(percent(10.0), "90 %");
        assert_eq!(percent(100.0), "99 %");
        assert_eq!(percent(1e3), "99.9 %");
        assert_eq!(percent(1e4), "99.99 %");
        assert_eq!(time(1e4), "10 us");
        assert_eq!(time(1e9), "1 s");
        assert_eq!(thousands(2e5), "200 k");
    }

    #[test]
    fn pictures_are_drawn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.svg");
        let labels = Labels {
            title: "title",
            x: "offered",
            y: "latency",
        };
        let series = [Series {
            name: "p50",
            points: &[(1e3, 5e4), (1e4, 6e4), (1e5, 9e7)],
        }];
        draw_load(&path, &labels, &series).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        assert!(svg.contains("offered") && svg.contains("p50") && svg.contains("polyline"));
        draw_percentiles(&path, &labels, &series).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("99.9 %"));
        assert!(draw_load(Path::new("/nowhere/a.svg"), &labels, &series).is_err());
        // One point alone, or a latency of none, is drawn; none, or what is no number, is refused.
        for points in [&[(1e3, 5e4)][..], &[(1e3, 0.0), (2e3, 0.0)]] {
            let series = [Series {
                name: "p50",
                points,
            }];
            draw_load(&path, &labels, &series).unwrap();
            draw_growth(&path, &labels, &series).unwrap();
        }
        let bad = [
            &[][..],
            &[(1e3, f64::NAN), (2e3, 1.0)],
            &[(1e3, 1.0), (2e3, f64::NAN), (3e3, 1.0)],
            &[(1e3, f64::INFINITY)],
            &[(0.0, 1.0), (1.0, 1.0)],
        ];
        for points in bad {
            let series = [Series {
                name: "p50",
                points,
            }];
            assert!(draw_load(&path, &labels, &series).is_err(), "{points:?}");
            assert!(draw_growth(&path, &labels, &series).is_err(), "{points:?}");
        }
    }
}
