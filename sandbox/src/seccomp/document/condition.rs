//! One argument test of a profile.

use serde::Deserialize;

use crate::seccomp::constants;
use crate::seccomp::error::ConditionFault;
use crate::seccomp::profile::{Condition, Width};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct FileCondition {
    pub(super) arg: u8,
    width: u8,
    mask: Option<Value>,
    equals: Option<Value>,
    r#in: Option<Vec<Value>>,
}

/// A number, or names of constants joined by `|`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Number(i64),
    Names(String),
}

impl FileCondition {
    /// Checks it.
    pub(super) fn check(&self) -> Result<Condition, ConditionFault> {
        condition(self)
    }
}

/// Values of one argument test: each costs up to four instructions, and jumps reach 255.
const MAX_VALUES: usize = 32;

fn condition(source: &FileCondition) -> Result<Condition, ConditionFault> {
    if source.arg > 5 {
        return Err(ConditionFault::NoSuchArgument);
    }
    let width = match source.width {
        32 => Width::Low32,
        64 => Width::Full64,
        _ => return Err(ConditionFault::Width),
    };
    let fits = |value: u64| match value & !width.bits() {
        0 => Ok(value),
        _ => Err(ConditionFault::TooWide(value)),
    };
    let mask = match &source.mask {
        Some(mask) => fits(number(mask)?)?,
        None => width.bits(),
    };
    let values = match (&source.equals, &source.r#in) {
        (Some(value), None) => std::slice::from_ref(value),
        (None, Some(values)) if !values.is_empty() => values.as_slice(),
        _ => return Err(ConditionFault::Values),
    };
    if values.len() > MAX_VALUES {
        return Err(ConditionFault::TooManyValues {
            count: values.len(),
            limit: MAX_VALUES,
        });
    }
    let values = values
        .iter()
        .map(|value| {
            let value = fits(number(value)?)?;
            if value & !mask == 0 {
                Ok(value)
            } else {
                Err(ConditionFault::NeverTrue(value))
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Condition {
        arg: source.arg,
        width,
        mask,
        values,
    })
}

fn number(value: &Value) -> Result<u64, ConditionFault> {
    match value {
        Value::Number(number) => {
            u64::try_from(*number).map_err(|_| ConditionFault::Negative(*number))
        }
        Value::Names(names) => names.split('|').map(str::trim).try_fold(0, |bits, name| {
            let value = constants::value(name)
                .ok_or_else(|| ConditionFault::UnknownConstant(name.to_owned()))?;
            Ok(bits | value)
        }),
    }
}
