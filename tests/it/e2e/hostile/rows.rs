//! The table: what each plugin does, and what is to be told of it.

/// One way to misbehave.
pub(super) struct Row {
    /// What it misbehaves in.
    pub(super) kind: &'static str,
    /// The plugin, and for one that holds its session by itself what it does
    /// (`tests/fixtures/go/goatflow`).
    pub(super) name: &'static str,
    pub(super) what: What,
    /// What has to stand in the call's answer, in the plugin's state or log, or in the daemon's log.
    pub(super) told: &'static str,
    /// Whether it goes on to serve.
    pub(super) is_well_after: bool,
    /// Whether it has much memory and a long deadline.
    pub(super) is_roomy: bool,
    /// Whether it misbehaves by doing much in little time.
    pub(super) is_fast: bool,
}

/// When it misbehaves.
#[derive(Clone, Copy)]
pub(super) enum What {
    /// When it is started.
    Start,
    /// When it is called.
    Call,
    /// When it is called twice at once.
    Calls,
    /// In this function of the well-behaved program, with these arguments.
    Function(&'static str, &'static str),
    /// When it is ended.
    Stop,
}

impl Row {
    const fn well_after(self) -> Self {
        Self {
            is_well_after: true,
            ..self
        }
    }

    const fn roomy(self) -> Self {
        Self {
            is_roomy: true,
            ..self
        }
    }

    const fn fast(self) -> Self {
        Self {
            is_fast: true,
            ..self
        }
    }
}

const fn row(kind: &'static str, name: &'static str, what: What, told: &'static str) -> Row {
    Row {
        kind,
        name,
        what,
        told,
        is_well_after: false,
        is_roomy: false,
        is_fast: false,
    }
}

use What::{Call, Calls, Function, Start, Stop};

pub(super) const ROWS: &[Row] = &[
    row(
        "handshake",
        "silent",
        Start,
        "printed no handshake line within 3s",
    ),
    row(
        "handshake",
        "half-line",
        Start,
        "printed no handshake line within 3s",
    ),
    row(
        "handshake",
        "foreign-line",
        Start,
        "first line of output is no handshake",
    ),
    row(
        "handshake",
        "binary-line",
        Start,
        "its handshake line is refused",
    ),
    row(
        "handshake",
        "empty-line",
        Start,
        "first line of output is blank",
    ),
    row(
        "handshake",
        "two-lines",
        Start,
        "first line of output is no handshake",
    ),
    row(
        "handshake",
        "endless-line",
        Start,
        "first line of output exceeds",
    ),
    row("handshake", "other-cookie", Start, "exited with status 1"),
    row(
        "handshake",
        "wrong-core",
        Start,
        "core protocol version 2 is not supported",
    ),
    row(
        "handshake",
        "wrong-app",
        Start,
        "application protocol version 9 is not one of",
    ),
    row(
        "handshake",
        "wrong-protocol",
        Start,
        "protocol \"grpc\" is not allowed",
    ),
    row(
        "handshake",
        "certificate",
        Start,
        "its handshake line is refused",
    ),
    row("handshake", "tcp", Start, "connect to its socket"),
    row("handshake", "tcp-elsewhere", Start, "a port of 127.0.0.1"),
    row("handshake", "tcp-named", Start, "a port of 127.0.0.1"),
    row("handshake", "socket-elsewhere", Start, "a socket in"),
    row("handshake", "climbing-path", Start, "a socket in"),
    row("handshake", "abstract-socket", Start, "a socket in"),
    row(
        "handshake",
        "socket-missing",
        Start,
        "connect to its socket",
    ),
    row(
        "handshake",
        "socket-is-file",
        Start,
        "connect to its socket",
    ),
    row(
        "handshake",
        "socket-is-link",
        Start,
        "connect to its socket",
    ),
    row(
        "handshake",
        "datagram-socket",
        Start,
        "connect to its socket",
    ),
    row("handshake", "mute", Start, "dispense did not end within 3s"),
    row("yamux", "connection-closed", Start, "dispense failed"),
    row("yamux", "frame-version", Start, "invalid frame header"),
    row("yamux", "frame-type", Start, "invalid frame header"),
    row("yamux", "frame-http", Start, "invalid frame header"),
    row(
        "yamux",
        "frame-half",
        Start,
        "dispense did not end within 3s",
    ),
    row("yamux", "window-overrun", Start, "exceeds its window"),
    row("yamux", "frame-huge", Start, "exceeds its window"),
    row("yamux", "fin-twice", Start, "closed twice"),
    row("yamux", "syn-twice", Start, "opened twice"),
    row("yamux", "stream-reset", Start, "stream reset"),
    row("yamux", "go-away", Start, "ended the session with code 1"),
    row(
        "yamux",
        "go-away-politely",
        Start,
        "peer takes no more streams",
    ),
    row(
        "yamux",
        "ping-flood",
        Start,
        "dispense did not end within 3s",
    ),
    row(
        "yamux",
        "syn-storm",
        Start,
        "dispense did not end within 3s",
    ),
    row("yamux", "stream-hoard", Call, "go: 200").well_after(),
    row("yamux", "unasked-data", Call, "go: 200").well_after(),
    row("gob", "type-bomb", Call, "more than 256 type definitions"),
    row("gob", "nested-deep", Call, "nested deeper than 100"),
    row("gob", "message-length", Call, "exceeds the limit of"),
    row("gob", "message-empty", Call, "message of length zero"),
    row("gob", "count-lie", Call, "message ends inside"),
    row("gob", "undefined-type", Call, "is not defined"),
    row(
        "gob",
        "reserved-type",
        Call,
        "definition of reserved type 3",
    ),
    row("gob", "other-type", Call, "int received").well_after(),
    row("gob", "error-not-utf8", Call, "is not UTF-8").well_after(),
    row(
        "gob",
        "json-not-utf8",
        Call,
        "result is not UTF-8 at byte 1",
    )
    .well_after(),
    row("gob", "json-deep", Call, "go: 200 [[[[").well_after(),
    row("gob", "register-deep", Start, "not the JSON expected"),
    row("gob", "register-binary", Start, "not the JSON expected"),
    row("register", "text-register", Start, "not the JSON expected"),
    row("register", "big-register", Start, "register failed")
        .roomy()
        .fast(),
    row(
        "register",
        "hang-register",
        Start,
        "register did not end within 3s",
    ),
    row("register", "fail-register", Start, "no registration today"),
    row(
        "register",
        "other-name",
        Start,
        "it registers as \"somebody-else\"",
    ),
    row(
        "register",
        "hang-init",
        Start,
        "initialise did not end within 3s",
    ),
    row("register", "fail-init", Start, "no database for me"),
    row("reply", "reply-never", Call, "call.deadline").well_after(),
    row("reply", "reply-late", Call, "call.deadline").well_after(),
    row("reply", "reply-wrong-number", Call, "call.deadline").well_after(),
    row("reply", "reply-twice", Call, "go: 200 \"good\"").well_after(),
    row("reply", "reply-swapped", Calls, "go: 200 [1] go: 200 [2]").well_after(),
    row("reply", "reply-huge", Call, "call.too_large")
        .well_after()
        .roomy(),
    row(
        "reply",
        "reply-cut",
        Call,
        "ended by the peer inside a message",
    ),
    row("reply", "error-huge", Call, "no no no")
        .well_after()
        .roomy(),
    row("reply", "error-in-header", Call, "no no no")
        .well_after()
        .roomy(),
    row(
        "reply",
        "no-json",
        Function("bad_result", "{}"),
        "result is not JSON",
    )
    .well_after(),
    row("host call", "host-flood", Call, "cache rate limit exceeded")
        .well_after()
        .roomy()
        .fast(),
    row("host call", "host-unread", Call, "call.deadline"),
    row(
        "host call",
        "host-giant",
        Call,
        "exceeds the limit of 16777216",
    )
    .well_after()
    .roomy(),
    row(
        "host call",
        "host-garbage",
        Call,
        "its host calls ended: unreadable message: message of 1099511627776 bytes exceeds",
    ),
    row("host call", "host-deep", Call, "arguments").well_after(),
    row("host call", "host-not-json", Call, "arguments").well_after(),
    row(
        "host call",
        "host-odd-method",
        Call,
        "unknown host API method",
    )
    .well_after(),
    row(
        "host call",
        "host-unknown",
        Function("host", r#"{"method":"no_such_method"}"#),
        "unknown host API method",
    )
    .well_after(),
    row("host call", "socket-unread", Call, "call.deadline"),
    row(
        "output",
        "stdout-flood",
        Function("flood", r#"{"stream":"fd1","bytes":2097152,"line":80}"#),
        "records dropped",
    )
    .well_after()
    .roomy()
    .fast(),
    row(
        "output",
        "stderr-flood",
        Function("flood", r#"{"stream":"fd2","bytes":2097152,"line":80}"#),
        "records dropped",
    )
    .well_after()
    .roomy()
    .fast(),
    row(
        "output",
        "stdout-unended",
        Function("flood", r#"{"stream":"fd1","bytes":2097152}"#),
        "xxxxxxxxxxxxxxxx",
    )
    .well_after()
    .roomy(),
    row(
        "output",
        "session-flood",
        Function("flood", r#"{"stream":"stdout","bytes":65536,"line":1}"#),
        "records dropped",
    )
    .well_after()
    .roomy()
    .fast(),
    row(
        "output",
        "session-unended",
        Function("flood", r#"{"stream":"stderr","bytes":2097152}"#),
        "xxxxxxxxxxxxxxxx",
    )
    .well_after()
    .roomy(),
    row(
        "output",
        "binary-output",
        Function("print", r#"{"text":"\u001b[2J\u0000\u0007\u202e\n"}"#),
        "\\u{1b}[2J\\u{0}\\u{7}\\u{202e}",
    )
    .well_after(),
    row(
        "resource",
        "fork-bomb",
        Function("fork_bomb", "{}"),
        "EAGAIN",
    )
    .roomy(),
    row(
        "resource",
        "thread-bomb",
        Function("use_up", r#"{"text":"threads"}"#),
        "exited with status 2",
    )
    .roomy(),
    row(
        "resource",
        "memory-hog",
        Function("allocate", "{}"),
        "out of memory",
    ),
    row(
        "resource",
        "busy-loop",
        Function("spin", "{}"),
        "call.deadline",
    )
    .well_after(),
    row(
        "resource",
        "tmp-full",
        Function("use_up", r#"{"text":"tmp"}"#),
        "ENOSPC",
    )
    .roomy(),
    row(
        "resource",
        "inodes",
        Function("use_up", r#"{"text":"inodes"}"#),
        "ENOSPC",
    )
    .roomy(),
    row(
        "resource",
        "descriptors",
        Function("use_up", r#"{"text":"descriptors"}"#),
        "EMFILE",
    )
    .roomy(),
    row("end", "exit-early", Start, "cannot find my licence file"),
    row("end", "exit-zero", Start, "exited with status 0"),
    row("end", "exit-served", Start, "exited with status 9"),
    row("end", "die-register", Start, "exited with status 7"),
    row("end", "die-init", Start, "exited with status 8"),
    row(
        "end",
        "exit-in-call",
        Function("exit", r#"{"code":5}"#),
        "exited with status 5",
    ),
    row(
        "end",
        "panic-in-call",
        Function("panic", "{}"),
        "exited with status 2",
    ),
    row(
        "end",
        "signal-in-call",
        Function("signal", r#"{"code":9}"#),
        "ended by signal 9",
    ),
    row(
        "end",
        "refused-call",
        Function("probe", r#"{"acts":["mount"],"here":true}"#),
        "made a system call that is refused: mount",
    ),
    row("end", "closes-and-lives", Call, "its connection is gone"),
    row("end", "becomes-another", Call, "its connection is gone"),
    row("end", "stops-itself", Call, "call.deadline"),
    row("end", "hang-shutdown", Stop, "stopped"),
    row("end", "ignore-quit", Stop, "stopped"),
];
