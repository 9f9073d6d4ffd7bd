//! Functions that a statement may call: SQLite's own that compute from their arguments.
//!
//! Left out on purpose: what loads code or reaches files (`load_extension`, `fts3_tokenizer`,
//! `readfile`, `writefile`, `edit`), what shows the engine (`sqlite_*`), what makes large values out
//! of a number (`zeroblob`, `randomblob`), what compares each part of one value with each of another
//! (`json_patch`), and what tells of other plugins' calls on the same
//! connection (`changes`, `total_changes`, `last_insert_rowid`).

use sqlparser::ast::{ObjectName, ObjectNamePart};

use super::StatementError;

/// May a function of this name be called?
pub(super) fn check(name: &ObjectName) -> Result<(), StatementError> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)]
            if PERMITTED
                .binary_search(&ident.value.to_ascii_lowercase().as_str())
                .is_ok() =>
        {
            Ok(())
        }
        _ => Err(refused(name)),
    }
}

/// May a function of this name stand where a table does?
pub(super) fn check_table_function(name: &ObjectName) -> Result<(), StatementError> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)]
            if ["json_each", "json_tree"].contains(&ident.value.to_ascii_lowercase().as_str()) =>
        {
            Ok(())
        }
        _ => Err(refused(name)),
    }
}

fn refused(name: &ObjectName) -> StatementError {
    StatementError::Function {
        function: name.to_string().chars().take(80).collect(),
    }
}

/// In the order of the alphabet.
pub(super) const PERMITTED: [&str; 129] = [
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "avg",
    "bm25",
    "ceil",
    "ceiling",
    "char",
    "coalesce",
    "concat",
    "concat_ws",
    "cos",
    "cosh",
    "count",
    "cume_dist",
    "current_date",
    "current_time",
    "current_timestamp",
    "date",
    "datetime",
    "degrees",
    "dense_rank",
    "exp",
    "first_value",
    "floor",
    "format",
    "glob",
    "group_concat",
    "hex",
    "highlight",
    "if",
    "ifnull",
    "iif",
    "instr",
    "json",
    "json_array",
    "json_array_length",
    "json_error_position",
    "json_extract",
    "json_group_array",
    "json_group_object",
    "json_insert",
    "json_object",
    "json_pretty",
    "json_quote",
    "json_remove",
    "json_replace",
    "json_set",
    "json_type",
    "json_valid",
    "jsonb",
    "jsonb_array",
    "jsonb_extract",
    "jsonb_group_array",
    "jsonb_group_object",
    "jsonb_insert",
    "jsonb_object",
    "jsonb_remove",
    "jsonb_replace",
    "jsonb_set",
    "julianday",
    "lag",
    "last_value",
    "lead",
    "length",
    "like",
    "likelihood",
    "likely",
    "ln",
    "log",
    "log10",
    "log2",
    "lower",
    "ltrim",
    "max",
    "median",
    "min",
    "mod",
    "nth_value",
    "ntile",
    "nullif",
    "octet_length",
    "percent_rank",
    "percentile",
    "percentile_cont",
    "percentile_disc",
    "pi",
    "pow",
    "power",
    "printf",
    "quote",
    "radians",
    "random",
    "rank",
    "replace",
    "round",
    "row_number",
    "rtrim",
    "sign",
    "sin",
    "sinh",
    "snippet",
    "soundex",
    "sqrt",
    "strftime",
    "string_agg",
    "substr",
    "substring",
    "sum",
    "tan",
    "tanh",
    "time",
    "timediff",
    "total",
    "trim",
    "trunc",
    "typeof",
    "unhex",
    "unicode",
    "unistr",
    "unistr_quote",
    "unixepoch",
    "unlikely",
    "upper",
];
