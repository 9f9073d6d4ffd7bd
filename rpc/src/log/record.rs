//! Log records out of lines.
use serde_json::{Map, Value};

use super::split::{LineSplitter, Piece};
use super::timestamp;

/// How serious a record is, by the plugin's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Finest.
    Trace,
    /// Also everything that names no level.
    Debug,
    /// Information.
    Info,
    /// Warning.
    Warn,
    /// Error; also what follows a panic.
    Error,
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "trace" => Some(Self::Trace),
            "debug" => Some(Self::Debug),
            "info" => Some(Self::Info),
            "warn" => Some(Self::Warn),
            "error" => Some(Self::Error),
            _ => None,
        }
    }

    /// The level's lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// One log record. Text is at most 64 KiB long; invalid UTF-8 has been replaced.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its level.
    pub level: Level,
    /// `@message` of a JSON line, otherwise the line itself.
    pub message: String,
    /// Other keys of a JSON line, and `timestamp`; empty otherwise.
    pub fields: Map<String, Value>,
}

/// Reads a plugin's standard error.
#[derive(Debug, Default)]
pub struct LogReader {
    splitter: LineSplitter,
    classifier: Classifier,
}

impl LogReader {
    /// A reader at the start of the output.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes; gives the record of each piece, with the piece for those who keep a raw copy.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(Piece<'_>, Record)) {
        let Self {
            splitter,
            classifier,
        } = self;
        splitter.push(bytes, |piece| each(piece, classifier.record(piece)));
    }

    /// The output has ended: gives what is left.
    pub fn finish(&mut self, mut each: impl FnMut(Piece<'_>, Record)) {
        let Self {
            splitter,
            classifier,
        } = self;
        splitter.finish(|piece| each(piece, classifier.record(piece)));
    }
}

/// Knows whether a Go panic has been seen: its stack trace has no levels.
#[derive(Debug, Default)]
struct Classifier {
    panicking: bool,
}

impl Classifier {
    fn record(&mut self, piece: Piece<'_>) -> Record {
        let text = String::from_utf8_lossy(piece.text);
        if !piece.is_line() {
            return verbatim(Level::Debug, &text);
        }
        match parse_json(&text) {
            Json::Record(record) => record,
            Json::NoLevel => verbatim(Level::Debug, &text),
            Json::No => verbatim(self.level(&text), &text),
        }
    }

    fn level(&mut self, text: &str) -> Level {
        const PREFIXES: [(&str, Level); 5] = [
            ("[TRACE]", Level::Trace),
            ("[DEBUG]", Level::Debug),
            ("[INFO]", Level::Info),
            ("[WARN]", Level::Warn),
            ("[ERROR]", Level::Error),
        ];
        let tagged = PREFIXES.iter().find(|(prefix, _)| text.starts_with(prefix));
        if let Some((_, level)) = tagged {
            return *level;
        }
        self.panicking |= text.starts_with("panic: ") || text.starts_with("fatal error: ");
        if self.panicking {
            Level::Error
        } else {
            Level::Debug
        }
    }
}

fn verbatim(level: Level, text: &str) -> Record {
    Record {
        level,
        message: text.to_owned(),
        fields: Map::new(),
    }
}

enum Json {
    Record(Record),
    /// An object of hclog's form without a level we know.
    NoLevel,
    No,
}

fn parse_json(text: &str) -> Json {
    // Most lines of most plugins are no JSON; this saves a failed parse for each.
    if !text.trim_start().starts_with('{') {
        return Json::No;
    }
    let Ok(Value::Object(mut fields)) = serde_json::from_str(text) else {
        return Json::No;
    };
    let mut own = |key: &str| match fields.remove(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(()),
    };
    let (Ok(message), Ok(level), Ok(time)) = (own("@message"), own("@level"), own("@timestamp"))
    else {
        return Json::No;
    };
    let time = match time {
        None => Some(timestamp::ABSENT.to_owned()),
        Some(text) => timestamp::render(&text),
    };
    let Some(time) = time else { return Json::No };
    let Some(level) = level.as_deref().and_then(Level::parse) else {
        return Json::NoLevel;
    };
    fields.insert("timestamp".to_owned(), Value::String(time));
    Json::Record(Record {
        level,
        message: message.unwrap_or_default(),
        fields,
    })
}
