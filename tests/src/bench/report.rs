//! The report: ratios first, then figures, then drawings, the same for every section.

mod number;
mod tables;

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::record::Record;
use super::sections;

/// Writes `performance.md` into a directory, and answers its text.
///
/// # Errors
/// Where a file cannot be written.
pub fn write(directory: &Path, record: &Record) -> anyhow::Result<String> {
    let mut text = String::from("# Performance\n");
    for section in sections::all() {
        let about = section.about();
        let Some(measured) = record.sections.iter().find(|one| one.name == about.name) else {
            continue;
        };
        text.push_str(&tables::section(&*section, &about, measured));
    }
    let path = directory.join("performance.md");
    fs::write(&path, &text).with_context(|| format!("write {}", path.display()))?;
    Ok(text)
}
