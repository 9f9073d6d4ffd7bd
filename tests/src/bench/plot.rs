//! A figure over the cases, drawn: the median of each subject, and the range of the rounds as a thin
//! line over it.

mod scale;
mod sheet;

use anyhow::Context as _;
use plotters::style::RGBColor;

use super::record::{Results, Spread};
use super::report::number;
use super::section::{About, Case, Form, Plot, Role};
use scale::Scale;
use sheet::{Across, Along, Sheet};

/// The size of a drawing, and where the field of the figures lies in it. Pixels.
const WIDTH: i32 = 760;
const HEIGHT: i32 = 410;
const LEFT: i32 = 84;
const RIGHT: i32 = 736;
const TOP: i32 = 100;
const BOTTOM: i32 = 344;

const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
const FAINT: RGBColor = RGBColor(0xdd, 0xe1, 0xe5);
/// Ours blue, from dark to light; what they are held against grey; the limit amber. They differ in
/// brightness, so that a print in grey can be read.
const OURS: [RGBColor; 4] = [
    RGBColor(0x0b, 0x3d, 0x66),
    RGBColor(0x2b, 0x83, 0xc6),
    RGBColor(0x86, 0xc5, 0xee),
    RGBColor(0x12, 0x6e, 0x5a),
];
const PEERS: [RGBColor; 2] = [RGBColor(0x8b, 0x93, 0x9b), RGBColor(0xbf, 0xc5, 0xca)];
const LIMITS: [RGBColor; 1] = [RGBColor(0xe8, 0xae, 0x14)];

/// A subject's figures, one for each place along the axis.
struct Series {
    name: &'static str,
    colour: RGBColor,
    figures: Vec<Option<Spread>>,
}

/// Draws it as SVG; `None` where there is no figure to draw.
///
/// # Errors
/// Where it names a figure that the section has not, or cannot be drawn.
pub fn draw(about: &About, plot: &Plot, results: &Results<'_>) -> anyhow::Result<Option<String>> {
    let measure = about
        .measures
        .iter()
        .find(|one| one.key == plot.measure)
        .with_context(|| format!("no figure is called {}", plot.measure))?;
    let places: Vec<&Case> = results
        .cases()
        .iter()
        .filter(|case| {
            plot.only
                .iter()
                .all(|(name, value)| case.parameters.get(*name) == Some(value))
        })
        .collect();
    let series = series(about, plot, results, &places);
    let all = series.iter().flat_map(|one| one.figures.iter().flatten());
    let Some(scale) = Scale::over(all.copied(), plot.logarithmic) else {
        return Ok(None);
    };

    let mut svg = String::new();
    {
        let sheet = Sheet::new(&mut svg, WIDTH, HEIGHT)?;
        sheet.text(plot.title, 17, (16, 24), (Along::Start, Across::Middle))?;
        legend(&sheet, &series)?;
        axes(&sheet, &scale, measure.title, measure.unit)?;
        let step = f64::from(RIGHT - LEFT) / count(places.len());
        for (index, case) in places.iter().enumerate() {
            let label = match plot.along.and_then(|name| case.parameters.get(name)) {
                Some(value) => number(*value as f64),
                None => case.label.clone(),
            };
            let x = LEFT + pixel(step * (count(index) + 0.5));
            sheet.text(&label, 13, (x, BOTTOM + 8), (Along::Middle, Across::Start))?;
        }
        let middle = i32::midpoint(LEFT, RIGHT);
        sheet.text(
            plot.axis,
            14,
            (middle, HEIGHT - 36),
            (Along::Middle, Across::Middle),
        )?;
        match plot.form {
            Form::Bars => bars(&sheet, &scale, &series, step)?,
            Form::Lines => lines(&sheet, &scale, &series, step)?,
        }
        sheet.finish()?;
    }
    Ok(Some(svg))
}

fn series(about: &About, plot: &Plot, results: &Results<'_>, places: &[&Case]) -> Vec<Series> {
    let mut used = [0_usize; 3];
    let mut series = Vec::new();
    for subject in &about.subjects {
        let figures: Vec<Option<Spread>> = places
            .iter()
            .map(|case| results.spread(subject.name, &case.label, plot.measure))
            .collect();
        if figures.iter().all(Option::is_none) {
            continue;
        }
        let (colours, place): (&[RGBColor], usize) = match subject.role {
            Role::Ours => (&OURS, 0),
            Role::Peer => (&PEERS, 1),
            Role::Limit => (&LIMITS, 2),
        };
        let used = &mut used[place];
        let colour = colours.get(*used % colours.len()).copied().unwrap_or(INK);
        *used += 1;
        series.push(Series {
            name: subject.name,
            colour,
            figures,
        });
    }
    series
}

fn legend(sheet: &Sheet<'_>, series: &[Series]) -> anyhow::Result<()> {
    const BOX: i32 = 12;
    /// A letter of this size is about so wide.
    const LETTER: i32 = 7;
    let mut x = 16;
    for one in series {
        sheet.rectangle((x, 46), (x + BOX, 46 + BOX), one.colour)?;
        x += BOX + 6;
        sheet.text(one.name, 13, (x, 52), (Along::Start, Across::Middle))?;
        x += LETTER * i32::try_from(one.name.chars().count())? + 22;
    }
    Ok(())
}

fn axes(sheet: &Sheet<'_>, scale: &Scale, title: &str, unit: &str) -> anyhow::Result<()> {
    let title = format!("{title}, {unit}");
    sheet.text(&title, 14, (16, TOP - 22), (Along::Start, Across::Middle))?;
    for value in scale.ticks() {
        let y = height(scale, *value);
        sheet.line(&[(LEFT, y), (RIGHT, y)], FAINT, 1)?;
        sheet.text(
            &number(*value),
            13,
            (LEFT - 8, y),
            (Along::End, Across::Middle),
        )?;
    }
    sheet.line(&[(LEFT, BOTTOM), (RIGHT, BOTTOM)], INK, 1)
}

fn bars(sheet: &Sheet<'_>, scale: &Scale, series: &[Series], step: f64) -> anyhow::Result<()> {
    /// Of the room for one place, what stays empty.
    const GAP: f64 = 0.22;
    /// Wider bars say no more.
    const WIDEST: f64 = 90.0;
    let width = (step * (1.0 - GAP) / count(series.len())).min(WIDEST);
    for (number_of, one) in series.iter().enumerate() {
        for (index, figure) in one.figures.iter().enumerate() {
            let Some(figure) = figure else { continue };
            let centre = step * (count(index) + 0.5);
            let left = centre + width * (count(number_of) - count(series.len()) / 2.0);
            let (x0, x1) = (LEFT + pixel(left) + 1, LEFT + pixel(left + width) - 1);
            let top = height(scale, figure.median);
            sheet.rectangle((x0, top), (x1, BOTTOM), one.colour)?;
            let x = i32::midpoint(x0, x1);
            range(sheet, scale, x, *figure)?;
            let above = height(scale, figure.max) - 3;
            let size = if width < 44.0 { 10 } else { 12 };
            let text = number(figure.median);
            sheet.text(&text, size, (x, above), (Along::Middle, Across::End))?;
        }
    }
    Ok(())
}

fn lines(sheet: &Sheet<'_>, scale: &Scale, series: &[Series], step: f64) -> anyhow::Result<()> {
    /// Closer than this, two texts cover each other.
    const APART: i32 = 14;
    let mut written: Vec<(usize, i32)> = Vec::new();
    for one in series {
        let mut points = Vec::new();
        for (index, figure) in one.figures.iter().enumerate() {
            let Some(figure) = figure else { continue };
            let x = LEFT + pixel(step * (count(index) + 0.5));
            let y = height(scale, figure.median);
            range(sheet, scale, x, *figure)?;
            points.push((x, y));
            let taken =
                |(place, other): &(usize, i32)| *place == index && (other - y).abs() < APART;
            if !written.iter().any(taken) {
                written.push((index, y));
                let text = number(figure.median);
                sheet.text(&text, 12, (x + 7, y - 3), (Along::Start, Across::End))?;
            }
        }
        sheet.line(&points, one.colour, 3)?;
        for point in points {
            sheet.dot(point, 5, one.colour)?;
        }
    }
    Ok(())
}

/// From the least to the most of the rounds.
fn range(sheet: &Sheet<'_>, scale: &Scale, x: i32, figure: Spread) -> anyhow::Result<()> {
    let (low, high) = (height(scale, figure.min), height(scale, figure.max));
    if low == high {
        return Ok(());
    }
    sheet.line(&[(x, low), (x, high)], INK, 1)?;
    for y in [low, high] {
        sheet.line(&[(x - 4, y), (x + 4, y)], INK, 1)?;
    }
    Ok(())
}

/// Where on the sheet a value lies.
fn height(scale: &Scale, value: f64) -> i32 {
    BOTTOM - pixel(scale.part(value) * f64::from(BOTTOM - TOP))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "places on a sheet of some hundred pixels; a cast saturates"
)]
fn pixel(value: f64) -> i32 {
    value.round() as i32
}

#[expect(clippy::cast_precision_loss, reason = "a small count")]
fn count(value: usize) -> f64 {
    value as f64
}
