//! Pictures of measurements, as SVG: for docs, and for whoever would rather look than read.

use plotters::prelude::*;
use std::path::Path;

/// One line of a chart.
pub struct Series<'a> {
    /// What it shows.
    pub name: &'a str,
    /// Points from left to right.
    pub points: &'a [(f64, f64)],
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
    let all = || series.iter().flat_map(|series| series.points);
    let (low, high) = all().fold((f64::MAX, f64::MIN), |(low, high), (x, _)| {
        (low.min(*x), high.max(*x))
    });
    let top = all().fold(0.0f64, |top, (_, y)| top.max(*y)) * 1.15;
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
        for (at, series) in series.iter().enumerate() {
            let color = Palette99::pick(at).mix(0.9);
            chart
                .draw_series(
                    LineSeries::new(series.points.iter().copied(), color.stroke_width(2))
                        .point_size(3),
                )?
                .label(series.name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()?;
        root.present()?;
        Ok(())
    };
    draw().map_err(|error| format!("cannot draw {}: {error}", path.display()))
}

/// A round number in few letters.
fn thousands(x: f64) -> String {
    match x {
        x if x >= 1e6 => format!("{:.0} M", x / 1e6),
        x if x >= 1e3 => format!("{:.0} k", x / 1e3),
        x => format!("{x:.0}"),
    }
}
