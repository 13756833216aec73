//! The picture of a study, as SVG: what an operator puts before a board. Four panels: turnover and
//! delay by level of liquidity, the queue over the day, and what settled the value.
//!
//! Colours are Okabe and Ito's and Tol's, told apart by people who see fewer of them; sets of rules
//! differ by marker, too.

mod panels;

use super::Study;
use super::day::Day;
use super::play::Rules;
use super::report::{Origin, day_line, headline, human, title_of};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// A picture being drawn.
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// What keeps it from being drawn.
type Drawn = Result<(), Box<dyn std::error::Error>>;

const SIZE: (u32, u32) = (1_240, 980);
const HEADER: i32 = 148;
const PANEL_SIZE: (u32, u32) = (640, 460);
const LEGEND: i32 = 34;
const MARGIN: i32 = 28;
const INK: RGBColor = RGBColor(34, 34, 34);
const SOFT: RGBColor = RGBColor(102, 102, 102);

/// One of the four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Panel {
    /// Turnover ratio by level.
    Turnover,
    /// Delay by level.
    Delay,
    /// The queue over the day.
    Queue,
    /// What settled the value, by level.
    Mechanisms,
}

impl Panel {
    /// All four, in reading order.
    pub const ALL: [Panel; 4] = [
        Panel::Turnover,
        Panel::Delay,
        Panel::Queue,
        Panel::Mechanisms,
    ];

    /// A name for a file.
    pub fn name(self) -> &'static str {
        match self {
            Panel::Turnover => "turnover",
            Panel::Delay => "delay",
            Panel::Queue => "queue",
            Panel::Mechanisms => "mechanisms",
        }
    }

    fn draw(self, area: &Area<'_>, root: &Area<'_>, scene: &Scene<'_>) -> Drawn {
        match self {
            Panel::Turnover => panels::turnover(area, root, scene),
            Panel::Delay => panels::delay(area, root, scene),
            Panel::Queue => panels::queue(area, root, scene),
            Panel::Mechanisms => panels::mechanisms(area, root, scene),
        }
    }
}

/// What is drawn.
struct Scene<'a> {
    day: &'a Day,
    origin: &'a Origin,
    study: &'a Study,
    rules: Vec<Rules>,
}

/// The whole picture as SVG.
///
/// # Errors
/// What the drawing library says.
pub fn draw(day: &Day, origin: &Origin, study: &Study) -> Result<String, String> {
    let scene = Scene {
        day,
        origin,
        study,
        rules: study.plan.rules(),
    };
    svg(SIZE, |root| {
        header(root, &scene)?;
        let (_, below) = root.split_vertically(HEADER);
        for (area, panel) in below.split_evenly((2, 2)).iter().zip(Panel::ALL) {
            panel.draw(area, root, &scene)?;
        }
        Ok(())
    })
}

/// One panel as SVG.
///
/// # Errors
/// What the drawing library says.
pub fn draw_panel(
    panel: Panel,
    day: &Day,
    origin: &Origin,
    study: &Study,
) -> Result<String, String> {
    let scene = Scene {
        day,
        origin,
        study,
        rules: study.plan.rules(),
    };
    svg(PANEL_SIZE, |root| {
        let (top, below) = root.split_vertically(LEGEND);
        legend(&top, &scene.rules, (MARGIN, LEGEND / 2 + 4))?;
        panel.draw(&below, root, &scene)
    })
}

fn svg(size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> Drawn) -> Result<String, String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        let drawn = root.fill(&WHITE).map_err(Into::into);
        let drawn = drawn.and_then(|()| draw(&root));
        let drawn = drawn.and_then(|()| root.present().map_err(Into::into));
        drawn.map_err(|error: Box<dyn std::error::Error>| format!("cannot draw: {error}"))?;
    }
    Ok(text)
}

/// Title, day, the first thing to know, and which line is which.
fn header(root: &Area<'_>, scene: &Scene<'_>) -> Drawn {
    let bounds = &scene.study.bounds;
    let title = "What liquidity saving is worth: one day of payments, played at several levels of liquidity";
    write(root, title, (MARGIN, 22), bold(24, INK))?;
    let day = format!(
        "{}; value {} {currency}, upper bound of liquidity {} {currency}",
        day_line(scene.day, scene.origin),
        human(scene.day.value()),
        human(bounds.upper_sum()),
        currency = scene.origin.currency,
    );
    write(root, &day, (MARGIN, 56), plain(15, SOFT))?;
    if let Some(headline) = headline(scene.study) {
        write(root, &headline, (MARGIN, 80), bold(16, INK))?;
    }
    legend(root, &scene.rules, (MARGIN, 122))
}

/// A marker and a title for each set of rules, in one row.
fn legend(area: &Area<'_>, rules: &[Rules], at: (i32, i32)) -> Drawn {
    let (mut x, y) = at;
    for rules in rules {
        let look = Look::of(*rules);
        let line = vec![(x, y), (x + 34, y)];
        area.draw(&PathElement::new(line, look.color.stroke_width(3)))?;
        look.mark(area, (x + 17, y))?;
        let title = title_of(*rules);
        write(area, title, (x + 42, y - 8), plain(15, INK))?;
        x += 42 + 7 * title.len() as i32 + 32;
    }
    Ok(())
}

/// How a set of rules is drawn.
#[derive(Clone, Copy)]
struct Look {
    color: RGBColor,
    marker: Marker,
}

#[derive(Clone, Copy)]
enum Marker {
    Circle,
    Triangle,
    Cross,
}

impl Look {
    fn of(rules: Rules) -> Look {
        match rules {
            Rules::Plain => Look {
                color: RGBColor(213, 94, 0),
                marker: Marker::Circle,
            },
            Rules::Saving(_) => Look {
                color: RGBColor(0, 114, 178),
                marker: Marker::Triangle,
            },
            Rules::Batches(..) => Look {
                color: RGBColor(0, 158, 115),
                marker: Marker::Cross,
            },
        }
    }

    /// Draws its marker at a pixel of `area`.
    fn mark(self, area: &Area<'_>, at: (i32, i32)) -> Drawn {
        match self.marker {
            Marker::Circle => area.draw(&Circle::new(at, 5, self.color.filled()))?,
            Marker::Triangle => area.draw(&TriangleMarker::new(at, 7, self.color.filled()))?,
            Marker::Cross => area.draw(&Cross::new(at, 6, self.color.stroke_width(3)))?,
        }
        Ok(())
    }
}

fn plain<'a>(size: i32, color: RGBColor) -> TextStyle<'a> {
    ("sans-serif", size).into_font().color(&color)
}

fn bold<'a>(size: i32, color: RGBColor) -> TextStyle<'a> {
    let font = ("sans-serif", size).into_font();
    font.style(FontStyle::Bold).color(&color)
}

fn centred(style: TextStyle<'_>) -> TextStyle<'_> {
    style.pos(Pos::new(HPos::Center, VPos::Top))
}

/// Text whose upper left corner (or what its style says) is at a pixel of `area`.
fn write(area: &Area<'_>, text: &str, at: (i32, i32), style: TextStyle<'_>) -> Drawn {
    area.draw(&Text::new(text.to_string(), at, style))?;
    Ok(())
}
