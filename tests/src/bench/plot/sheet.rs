//! What is drawn on: a white sheet of SVG.

use anyhow::anyhow;
use plotters::backend::SVGBackend;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea as _};
use plotters::element::{Circle, PathElement, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, IntoFont as _, RGBColor, ShapeStyle, TextStyle, WHITE};

use super::INK;

/// A place on it, from the upper left.
pub(super) type Point = (i32, i32);

pub(super) struct Sheet<'a>(DrawingArea<SVGBackend<'a>, Shift>);

/// Which part of a text is at its place, from left to right.
#[derive(Clone, Copy)]
pub(super) enum Along {
    Start,
    Middle,
    End,
}

/// The same from top to bottom.
#[derive(Clone, Copy)]
pub(super) enum Across {
    Start,
    Middle,
    End,
}

impl<'a> Sheet<'a> {
    pub(super) fn new(svg: &'a mut String, width: i32, height: i32) -> anyhow::Result<Self> {
        let size = (u32::try_from(width)?, u32::try_from(height)?);
        let area = SVGBackend::with_string(svg, size).into_drawing_area();
        drawn(area.fill(&WHITE))?;
        Ok(Self(area))
    }

    pub(super) fn text(
        &self,
        text: &str,
        size: i32,
        at: Point,
        (along, across): (Along, Across),
    ) -> anyhow::Result<()> {
        let along = match along {
            Along::Start => HPos::Left,
            Along::Middle => HPos::Center,
            Along::End => HPos::Right,
        };
        let across = match across {
            Across::Start => VPos::Top,
            Across::Middle => VPos::Center,
            Across::End => VPos::Bottom,
        };
        // plotters writes a font's size divided by this, for the height of its letters.
        const WRITTEN: f64 = 1.24;
        let size = f64::from(size) * WRITTEN;
        let style = TextStyle::from(("sans-serif", size).into_font())
            .color(&INK)
            .pos(Pos::new(along, across));
        drawn(self.0.draw(&Text::new(text.to_owned(), at, style)))
    }

    pub(super) fn rectangle(&self, from: Point, to: Point, colour: RGBColor) -> anyhow::Result<()> {
        drawn(self.0.draw(&Rectangle::new([from, to], colour.filled())))
    }

    pub(super) fn line(
        &self,
        points: &[Point],
        colour: RGBColor,
        width: u32,
    ) -> anyhow::Result<()> {
        let style: ShapeStyle = colour.stroke_width(width);
        drawn(self.0.draw(&PathElement::new(points.to_vec(), style)))
    }

    pub(super) fn dot(&self, at: Point, radius: i32, colour: RGBColor) -> anyhow::Result<()> {
        drawn(self.0.draw(&Circle::new(at, radius, colour.filled())))
    }

    pub(super) fn finish(self) -> anyhow::Result<()> {
        drawn(self.0.present())
    }
}

fn drawn<E: std::error::Error + Send + Sync>(
    result: Result<(), plotters::drawing::DrawingAreaErrorKind<E>>,
) -> anyhow::Result<()> {
    result.map_err(|error| anyhow!("draw: {error}"))
}
