//! Functions that search a text for another, or for each of another's characters.
//!
//! Such a search takes as long as the product of both lengths, within one instruction of SQLite's
//! machine, which can be neither interrupted nor timed: half a megabyte in a megabyte takes
//! seconds, the longest values hours, and meanwhile a write keeps its lock. So what is searched for
//! must be short, and be seen to be. Patterns of `LIKE` and `GLOB` are bounded by the engine, which
//! is built with a limit on them.

use std::collections::BTreeSet;

use sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, UnaryOperator,
    Value,
};
use sqlparser::tokenizer::Location;

use super::StatementError;

/// Longest text that may be searched for, in bytes.
pub const NEEDLE_LIMIT_BYTES: usize = 256;

/// Weight of a search in a statement's size: some dozens of them are as many as are let through.
const SEARCH_WEIGHT: u64 = 2_000;

/// Weight of any other function, which takes as long as its arguments are.
const FUNCTION_WEIGHT: u64 = 50;

/// Weight of joining two texts.
const JOIN_WEIGHT: u64 = 10;

/// Bytes of a number as text.
const NUMBER_BYTES: usize = 32;

/// What an expression costs beside being there. Placeholders that are searched for are added to
/// `needles` by their places.
pub(super) fn weigh(expr: &Expr, needles: &mut BTreeSet<Location>) -> Result<u64, StatementError> {
    Ok(match expr {
        Expr::Function(function) => return of_function(function, needles),
        Expr::Like { .. } | Expr::ILike { .. } => SEARCH_WEIGHT,
        Expr::Trim {
            trim_what,
            trim_characters,
            ..
        } => {
            for needle in trim_what
                .iter()
                .map(AsRef::as_ref)
                .chain(trim_characters.iter().flatten())
            {
                check("trim", needle, needles)?;
            }
            SEARCH_WEIGHT
        }
        Expr::BinaryOp { op, .. } => match op {
            BinaryOperator::Custom(_) | BinaryOperator::Match | BinaryOperator::Regexp => {
                SEARCH_WEIGHT
            }
            BinaryOperator::StringConcat => JOIN_WEIGHT,
            op if is_glob(op) => SEARCH_WEIGHT,
            _ => 0,
        },
        _ => 0,
    })
}

fn is_glob(op: &BinaryOperator) -> bool {
    op.to_string().eq_ignore_ascii_case("glob")
}

fn of_function(
    function: &Function,
    needles: &mut BTreeSet<Location>,
) -> Result<u64, StatementError> {
    let name = function.name.to_string().to_ascii_lowercase();
    let name = name.trim_matches(['"', '`', '[', ']', '\'']);
    match name {
        "like" | "glob" => Ok(SEARCH_WEIGHT),
        "instr" | "replace" | "trim" | "ltrim" | "rtrim" | "unhex" => {
            if let Some(needle) = argument(function, 1)? {
                check(name, needle, needles)?;
            }
            Ok(SEARCH_WEIGHT)
        }
        _ => Ok(FUNCTION_WEIGHT),
    }
}

fn argument(function: &Function, at: usize) -> Result<Option<&Expr>, StatementError> {
    let odd = StatementError::NotPermitted {
        what: "this form of function call",
    };
    let FunctionArguments::List(list) = &function.args else {
        return Err(odd);
    };
    match list.args.get(at) {
        None => Ok(None),
        Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))) => Ok(Some(expr)),
        Some(_) => Err(odd),
    }
}

fn check(
    function: &str,
    needle: &Expr,
    needles: &mut BTreeSet<Location>,
) -> Result<(), StatementError> {
    match longest(needle, needles) {
        Some(bytes) if bytes <= NEEDLE_LIMIT_BYTES => Ok(()),
        _ => Err(StatementError::Needle {
            function: function.to_owned(),
        }),
    }
}

/// The most bytes that an expression comes to, where that can be told from it alone.
fn longest(expr: &Expr, needles: &mut BTreeSet<Location>) -> Option<usize> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.len()),
            Value::HexStringLiteral(digits) => Some(digits.len()),
            Value::Number(..) | Value::Boolean(_) | Value::Null => Some(NUMBER_BYTES),
            // Each is held against the limit alone, once its value is known.
            Value::Placeholder(_) => {
                needles.insert(value.span.start);
                Some(NUMBER_BYTES)
            }
            _ => None,
        },
        Expr::Nested(inner) => longest(inner, needles),
        Expr::UnaryOp { op, expr } => match op {
            // To SQLite it is nothing: a text stays the text that it is.
            UnaryOperator::Plus => longest(expr, needles),
            UnaryOperator::Minus | UnaryOperator::BitwiseNot | UnaryOperator::Not => {
                Some(NUMBER_BYTES)
            }
            _ => None,
        },
        Expr::BinaryOp {
            left,
            op: BinaryOperator::StringConcat,
            right,
        } => Some(longest(left, needles)?.saturating_add(longest(right, needles)?)),
        Expr::Function(function) => {
            let name = function.name.to_string().to_ascii_lowercase();
            let FunctionArguments::List(list) = &function.args else {
                return None;
            };
            match name.as_str() {
                "char" => Some(4 * list.args.len()),
                "lower" | "upper" => match argument(function, 0) {
                    Ok(Some(inner)) => longest(inner, needles),
                    _ => None,
                },
                _ => None,
            }
        }
        _ => None,
    }
}
