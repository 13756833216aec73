//! The four panels.

use super::{Area, Drawn, INK, Look, MARGIN, SOFT, Scene, bold, centred, plain, write};
use crate::study::EqualDelay;
use crate::study::bounds::Scale;
use crate::study::day::HOUR;
use crate::study::measures::{BUCKET, MECHANISMS, Measures};
use crate::study::report::{SAVING, human, middle_row, value_share};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use std::ops::Range;

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

const TITLE: i32 = 40;
/// Pixels on the right of the mechanisms for their names.
const NAMES: i32 = 124;
const UNSETTLED: RGBColor = RGBColor(221, 221, 221);
/// By place in [`MECHANISMS`].
const MECHANISM_COLORS: [RGBColor; MECHANISMS.len()] = [
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(240, 228, 66),
    RGBColor(230, 159, 0),
    RGBColor(204, 121, 167),
    RGBColor(102, 17, 0),
    RGBColor(136, 34, 85),
    RGBColor(51, 34, 136),
];
const MECHANISM_NAMES: [&str; MECHANISMS.len()] = [
    "at entry",
    "by release",
    "by offset",
    "by grp",
    "by pairs",
    "all at once",
    "by greedy",
    "by batch",
];

/// What a panel says besides its data.
struct Labels<'a> {
    title: &'a str,
    x: &'a str,
    y: &'a str,
    y_of: &'a dyn Fn(&f64) -> String,
    x_of: &'a dyn Fn(&f64) -> String,
    /// About so many marks along x; 0 for none.
    x_marks: usize,
}

pub(super) fn turnover(area: &Area<'_>, root: &Area<'_>, scene: &Scene<'_>) -> Drawn {
    by_level(area, root, scene, Measures::turnover_ratio, &|scale| {
        Labels {
            title: "Turnover ratio: value settled per unit of liquidity used",
            x: scale,
            y: "ratio",
            y_of: &|y| format!("{y:.0}"),
            x_of: &|x| format!("{x:.0}"),
            x_marks: 11,
        }
    })?;
    Ok(())
}

pub(super) fn delay(area: &Area<'_>, root: &Area<'_>, scene: &Scene<'_>) -> Drawn {
    let minutes = Measures::delay_minutes;
    let chart = by_level(area, root, scene, minutes, &|scale| Labels {
        title: "Settlement delay, weighted by value",
        x: scale,
        y: "minutes",
        y_of: &|y| format!("{y:.0}"),
        x_of: &|x| format!("{x:.0}"),
        x_marks: 11,
    })?;
    same_delay(&chart, root, scene)
}

/// An arrow from the level without liquidity saving to the one with it at which delay is the same.
fn same_delay(chart: &Chart<'_, '_>, root: &Area<'_>, scene: &Scene<'_>) -> Drawn {
    let Some(row) = middle_row(scene.study) else {
        return Ok(());
    };
    let other = SAVING;
    let EqualDelay::At(to) = scene.study.level_of_equal_delay(row, other) else {
        return Ok(());
    };
    let plain = &scene.study.rows[row];
    let (from, at) = (
        plain.level.percent(),
        plain.plays[0].measures.delay_minutes(),
    );
    if to >= from {
        return Ok(());
    }
    // Equal in relative delay is equal in minutes: both are parts of the same whole.
    let pixel = |x: f64| chart.plotting_area().map_coordinate(&(x, at));
    let (start, end) = (pixel(from), pixel(to));
    let line = INK.stroke_width(2);
    root.draw(&PathElement::new(vec![(start.0 - 8, start.1), end], line))?;
    let tip = [(end.0 + 9, end.1 - 5), end, (end.0 + 9, end.1 + 5)];
    root.draw(&PathElement::new(tip.to_vec(), line))?;
    let saved = format!(
        "{:.0} % less liquidity, same delay",
        100.0 * (1.0 - to / from)
    );
    let beside = (start.0 + 14, start.1 - 22);
    write(root, &saved, beside, bold(14, INK))
}

/// A line for each set of rules over the levels.
fn by_level<'a, 'b>(
    area: &'a Area<'b>,
    root: &Area<'_>,
    scene: &Scene<'_>,
    of: impl Fn(&Measures) -> f64,
    labels: &dyn Fn(&'static str) -> Labels<'static>,
) -> Result<Chart<'a, 'b>, Box<dyn std::error::Error>> {
    let study = scene.study;
    let line = |rules: usize| -> Vec<(f64, f64)> {
        let point = |row: &crate::study::Row| (row.level.percent(), of(&row.plays[rules].measures));
        study.rows.iter().map(point).collect()
    };
    let lines: Vec<_> = (0..scene.rules.len()).map(line).collect();
    let all = lines.iter().flatten();
    let top = all.fold(0.0f64, |top, (_, y)| top.max(*y)).max(1.0) * 1.12;
    let scale = match study.plan.scale {
        Scale::OfUpper => "liquidity brought in, % of the upper bound",
        Scale::Between => "liquidity brought in, % of the way from lower to upper bound",
    };
    let mut chart = panel(area, root, &labels(scale), 0.0..102.0, 0.0..top)?;
    if study.plan.scale == Scale::OfUpper {
        let lower = 100.0 * study.bounds.lower_share();
        let ends = vec![(lower, 0.0), (lower, top)];
        chart.draw_series(DashedLineSeries::new(ends, 4, 4, SOFT.stroke_width(1)))?;
        let at = chart.plotting_area().map_coordinate(&(lower, top));
        write(root, "lower bound", (at.0 + 5, at.1 + 2), plain(13, SOFT))?;
    }
    for (rules, line) in scene.rules.iter().zip(lines) {
        let look = Look::of(*rules);
        chart.draw_series(LineSeries::new(line.clone(), look.color.stroke_width(3)))?;
        for point in line {
            look.mark(root, chart.plotting_area().map_coordinate(&point))?;
        }
    }
    Ok(chart)
}

pub(super) fn queue(area: &Area<'_>, root: &Area<'_>, scene: &Scene<'_>) -> Drawn {
    let (study, hours) = (scene.study, scene.day.hours);
    let levels = queue_levels(scene);
    let line = |row: usize, rules: usize| -> Vec<(f64, f64)> {
        let values = study.rows[row].plays[rules].measures.queue.iter();
        let middle = |at: u64| hours.opens_at + at * BUCKET + BUCKET / 2;
        let points = values.zip(0..).map(|(value, at)| (middle(at), *value));
        points
            .map(|(at, value)| (at as f64 / HOUR as f64, value as f64))
            .collect()
    };
    let each =
        || (0..scene.rules.len()).flat_map(|rules| levels.iter().map(move |row| (*row, rules)));
    let peaks = each().flat_map(|(row, rules)| line(row, rules));
    let top = peaks.fold(0.0f64, |top, (_, y)| top.max(y)).max(100.0) * 1.3;
    let hour = |at: u64| at as f64 / HOUR as f64;
    let y = format!("{} queued", scene.origin.currency);
    let labels = Labels {
        title: "Queue over the day",
        x: "time of day",
        y: &y,
        y_of: &|y| human(*y as u128).replace(".0", ""),
        x_of: &|x| {
            let minutes = (x * 60.0).round() as u64;
            format!("{:02}:{:02}", minutes / 60, minutes % 60)
        },
        x_marks: 12,
    };
    let range = hour(hours.opens_at)..hour(hours.closes_at);
    let mut chart = panel(area, root, &labels, range.clone(), 0.0..top)?;
    for (row, rules) in each() {
        let color = Look::of(scene.rules[rules]).color;
        if levels.last() == Some(&row) {
            chart.draw_series(LineSeries::new(line(row, rules), color.stroke_width(3)))?;
        } else {
            let dashes = DashedLineSeries::new(line(row, rules), 6, 4, color.stroke_width(2));
            chart.draw_series(dashes)?;
        }
    }
    // Which stroke is which level.
    let corner = chart.plotting_area().map_coordinate(&(range.start, top));
    for (row, at) in levels.iter().rev().zip(0..) {
        let (x, y) = (corner.0 + 14, corner.1 + 16 + at * 20);
        let ends = vec![(x, y), (x + 34, y)];
        if at == 0 {
            root.draw(&PathElement::new(ends, SOFT.stroke_width(3)))?;
        } else {
            for dash in 0..4 {
                let dash = x + dash * 10;
                let ends = vec![(dash, y), (dash + 6, y)];
                root.draw(&PathElement::new(ends, SOFT.stroke_width(2)))?;
            }
        }
        let words = format!("at {} % liquidity", study.rows[*row].level);
        write(root, &words, (x + 42, y - 7), plain(13, INK))?;
    }
    Ok(())
}

/// The middle level and the one below it.
fn queue_levels(scene: &Scene<'_>) -> Vec<usize> {
    let middle = middle_row(scene.study).unwrap_or(0);
    match middle {
        0 => vec![0],
        _ => vec![middle - 1, middle],
    }
}

pub(super) fn mechanisms(area: &Area<'_>, root: &Area<'_>, scene: &Scene<'_>) -> Drawn {
    let study = scene.study;
    let (width, _) = area.dim_in_pixel();
    let (plot, names) = area.split_horizontally(width as i32 - NAMES);
    let rows = study.rows.len() as f64;
    let labels = Labels {
        title: "What settled the value of the day",
        x: "",
        y: "% of value",
        y_of: &|y| format!("{y:.0}"),
        x_of: &|_| String::new(),
        x_marks: 0,
    };
    let mut chart = panel(&plot, root, &labels, -0.5..rows - 0.5, 0.0..100.0)?;
    let bars = scene.rules.len() as f64;
    let bar = 0.8 / bars;
    for (row, x) in study.rows.iter().zip(0..) {
        for (rules, (kind, played)) in scene.rules.iter().zip(&row.plays).enumerate() {
            let left = f64::from(x) - 0.4 + bar * rules as f64 + 0.02;
            let right = left + bar - 0.04;
            let mut y = 0.0;
            for (mechanism, color) in MECHANISM_COLORS.iter().enumerate() {
                let to = y + 100.0 * value_share(&played.measures, mechanism);
                if to > y {
                    let corners = [(left, y), (right, to)];
                    chart.draw_series([Rectangle::new(corners, color.filled())])?;
                }
                y = to;
            }
            let corners = [(left, y), (right, 100.0)];
            chart.draw_series([Rectangle::new(corners, UNSETTLED.filled())])?;
            let under = chart
                .plotting_area()
                .map_coordinate(&((left + right) / 2.0, 0.0));
            Look::of(*kind).mark(root, (under.0, under.1 + 10))?;
        }
        let under = chart.plotting_area().map_coordinate(&(f64::from(x), 0.0));
        let level = row.level.to_string();
        write(
            root,
            &level,
            (under.0, under.1 + 20),
            centred(plain(13, INK)),
        )?;
    }
    let middle = chart
        .plotting_area()
        .map_coordinate(&(rows / 2.0 - 0.5, 0.0));
    let words = match study.plan.scale {
        Scale::OfUpper => "liquidity brought in, % of the upper bound",
        Scale::Between => "liquidity brought in, % of the way from lower to upper bound",
    };
    write(
        root,
        words,
        (middle.0, middle.1 + 40),
        centred(plain(14, INK)),
    )?;
    mechanism_names(&names, scene)
}

/// Names of what is in the bars, from the top down.
fn mechanism_names(area: &Area<'_>, scene: &Scene<'_>) -> Drawn {
    let has = |of: &dyn Fn(&Measures) -> u64| {
        let plays = scene.study.rows.iter().flat_map(|row| &row.plays);
        plays.into_iter().any(|played| of(&played.measures) > 0)
    };
    let mut names = Vec::new();
    if has(&|measures| measures.unsettled().count) {
        names.push(("unsettled", UNSETTLED));
    }
    for (mechanism, name) in MECHANISM_NAMES.iter().enumerate().rev() {
        if has(&|measures| measures.settled_by[mechanism].count) {
            names.push((*name, MECHANISM_COLORS[mechanism]));
        }
    }
    for ((name, color), at) in names.into_iter().zip(0..) {
        let y = TITLE + 10 + 24 * at;
        area.draw(&Rectangle::new([(6, y), (20, y + 14)], color.filled()))?;
        write(area, name, (28, y), plain(14, INK))?;
    }
    Ok(())
}

/// Title, axes and mesh.
fn panel<'a, 'b>(
    area: &'a Area<'b>,
    root: &Area<'_>,
    labels: &Labels<'_>,
    x: Range<f64>,
    y: Range<f64>,
) -> Result<Chart<'a, 'b>, Box<dyn std::error::Error>> {
    let (range, _) = area.get_pixel_range();
    let (_, down) = area.get_pixel_range();
    let corner = (range.start + MARGIN, down.start + 10);
    write(root, labels.title, corner, bold(17, INK))?;
    let mut chart = ChartBuilder::on(area)
        .margin_top(TITLE)
        .margin_left(MARGIN - 8)
        .margin_right(18)
        .margin_bottom(10)
        .x_label_area_size(48)
        .y_label_area_size(66)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(INK.mix(0.12))
        .axis_style(INK.mix(0.6))
        .label_style(plain(13, INK))
        .axis_desc_style(plain(14, INK))
        .x_desc(labels.x)
        .y_desc(labels.y)
        .x_labels(labels.x_marks)
        .y_labels(6)
        .x_label_formatter(labels.x_of)
        .y_label_formatter(labels.y_of)
        .draw()?;
    Ok(chart)
}
