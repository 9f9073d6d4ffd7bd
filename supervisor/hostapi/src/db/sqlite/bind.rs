//! JSON values as a statement's parameters.

use serde_json::Value;
use sqlx::Arguments;
use sqlx::sqlite::SqliteArguments;

use super::super::{DatabaseError, RunError};

/// The values in order: whole numbers as 64-bit integers where they fit and else as floating
/// point, truth values as 0 and 1, arrays and objects as their JSON text.
pub(super) fn arguments(values: Vec<Value>) -> Result<SqliteArguments, RunError> {
    let mut arguments = SqliteArguments::default();
    for value in values {
        let added = match value {
            Value::Null => arguments.add(None::<i64>),
            Value::Bool(value) => arguments.add(value),
            Value::Number(number) => match number.as_i64() {
                Some(whole) => arguments.add(whole),
                None => arguments.add(number.as_f64()),
            },
            Value::String(text) => arguments.add(text),
            nested @ (Value::Array(_) | Value::Object(_)) => arguments.add(nested.to_string()),
        };
        added.map_err(|error| {
            RunError::Database(DatabaseError::Rejected {
                message: error.to_string(),
            })
        })?;
    }
    Ok(arguments)
}
