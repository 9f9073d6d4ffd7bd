//! The vertical axis: from zero, or in powers of ten.

use crate::bench::record::Spread;

pub(super) struct Scale {
    /// The values that it begins and ends with.
    low: f64,
    high: f64,
    logarithmic: bool,
    ticks: Vec<f64>,
}

/// Room above the largest value, for its text.
const ABOVE: f64 = 1.08;

impl Scale {
    /// One that holds these; `None` where there are none, or none that it can hold.
    pub(super) fn over(figures: impl Iterator<Item = Spread>, logarithmic: bool) -> Option<Self> {
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for figure in figures {
            least = least.min(figure.min);
            most = most.max(figure.max);
        }
        if !(least.is_finite() && most.is_finite() && most > 0.0) {
            return None;
        }
        if logarithmic && least > 0.0 {
            return Some(Self::powers(least, most));
        }
        let step = step(most * ABOVE);
        let mut ticks = vec![0.0];
        while let Some(last) = ticks.last()
            && *last < most * ABOVE
        {
            ticks.push(last + step);
        }
        Some(Self {
            low: 0.0,
            high: ticks.last().copied()?,
            logarithmic: false,
            ticks,
        })
    }

    /// Begins below the least by so much that its bar can be seen.
    fn powers(least: f64, most: f64) -> Self {
        const BELOW: f64 = 1.5;
        let (least, most) = (least / BELOW, most * ABOVE * ABOVE);
        let mut power = 10_f64.powf(least.log10().floor());
        let mut ticks: Vec<f64> = Vec::new();
        while ticks.last().is_none_or(|last| *last < most) {
            for part in [1.0, 2.0, 5.0] {
                let tick = power * part;
                if tick <= least {
                    // The one below is where it begins.
                    ticks.clear();
                }
                if ticks.last().is_none_or(|last| *last < most) {
                    ticks.push(tick);
                }
            }
            power *= 10.0;
        }
        let low = ticks.first().copied().unwrap_or(least);
        Self {
            low,
            high: ticks.last().copied().unwrap_or(most),
            logarithmic: true,
            ticks,
        }
    }

    /// Where lines are drawn.
    pub(super) fn ticks(&self) -> &[f64] {
        &self.ticks
    }

    /// How far up a value lies, from 0 to 1.
    pub(super) fn part(&self, value: f64) -> f64 {
        let part = if self.logarithmic {
            (value / self.low).log10() / (self.high / self.low).log10()
        } else {
            value / self.high
        };
        part.clamp(0.0, 1.0)
    }
}

/// A round number of which four to eight reach so far.
fn step(most: f64) -> f64 {
    let power = 10_f64.powf((most / 5.0).log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|part| part * power)
        .find(|step| most / step <= 6.0)
        .unwrap_or(power * 10.0)
}

#[cfg(test)]
mod tests {
    use super::Scale;
    use crate::bench::record::Spread;

    fn of(least: f64, most: f64, logarithmic: bool) -> Scale {
        let spread = Spread {
            min: least,
            median: least,
            max: most,
        };
        Scale::over([spread].into_iter(), logarithmic).unwrap()
    }

    #[test]
    fn linear_axes_begin_with_zero_and_hold_the_largest() {
        let scale = of(10_189.0, 73_149.0, false);
        assert_eq!(scale.ticks(), [0.0, 20_000.0, 40_000.0, 60_000.0, 80_000.0]);
        assert!(scale.part(0.0).abs() < 1e-9 && scale.part(73_149.0) < 1.0);
    }

    #[test]
    fn logarithmic_axes_begin_below_the_least() {
        let scale = of(177.0, 2_801.0, true);
        assert_eq!(scale.ticks(), [100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0]);
        assert!(scale.part(100.0).abs() < 1e-9 && (scale.part(5000.0) - 1.0).abs() < 1e-9);
        assert_eq!(of(102.0, 110.0, true).ticks(), [50.0, 100.0, 200.0]);
    }

    #[test]
    fn nothing_to_show_gives_no_axis() {
        assert!(Scale::over([].into_iter(), false).is_none());
    }
}
