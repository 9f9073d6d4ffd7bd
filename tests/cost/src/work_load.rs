//! The work-loads by name.

use crate::{gob, netrpc, routing, sql, yamux};

/// One piece of work, the same each time.
#[derive(Clone, Copy, Debug)]
pub struct WorkLoad {
    /// What it is called: the area, a slash, the work.
    pub name: &'static str,
    /// How often it is done while instructions are counted.
    pub times: u64,
    prepare: fn() -> Prepared,
}

/// Does the work as many times as it is told.
pub type Prepared = Box<dyn FnMut(u64)>;

impl WorkLoad {
    /// Every work-load.
    pub const ALL: &'static [Self] = &[
        Self::new("gob/encode-request-100", 2000, || gob::encode_request(100)),
        Self::new("gob/encode-request-64k", 200, || {
            gob::encode_request(64 << 10)
        }),
        Self::new("gob/encode-response-100", 2000, || {
            gob::encode_response(100)
        }),
        Self::new("gob/encode-response-64k", 200, || {
            gob::encode_response(64 << 10)
        }),
        Self::new("gob/decode-request-100", 2000, || gob::decode_request(100)),
        Self::new("gob/decode-request-64k", 200, || {
            gob::decode_request(64 << 10)
        }),
        Self::new("gob/decode-response-100", 2000, || {
            gob::decode_response(100)
        }),
        Self::new("gob/decode-response-64k", 200, || {
            gob::decode_response(64 << 10)
        }),
        Self::new("yamux/frame-encode", 20_000, yamux::encode_frames),
        Self::new("yamux/frame-parse", 20_000, yamux::parse_frames),
        Self::new("yamux/echo-100", 1000, || yamux::echo(100)),
        Self::new("yamux/echo-64k", 200, || yamux::echo(64 << 10)),
        Self::new("netrpc/1-caller-100", 1000, || netrpc::calls(1, 100)),
        Self::new("netrpc/1-caller-64k", 200, || netrpc::calls(1, 64 << 10)),
        Self::new("netrpc/64-callers-100", 20, || netrpc::calls(64, 100)),
        Self::new("netrpc/64-callers-64k", 4, || netrpc::calls(64, 64 << 10)),
        Self::new("netrpc/direct-1-caller-100", 1000, || {
            netrpc::direct_calls(1, 100)
        }),
        Self::new("netrpc/direct-1-caller-64k", 200, || {
            netrpc::direct_calls(1, 64 << 10)
        }),
        Self::new("netrpc/direct-64-callers-100", 20, || {
            netrpc::direct_calls(64, 100)
        }),
        Self::new("netrpc/direct-64-callers-64k", 4, || {
            netrpc::direct_calls(64, 64 << 10)
        }),
        Self::new("routing/1-route", 5000, || routing::look_up(1)),
        Self::new("routing/100-routes", 5000, || routing::look_up(100)),
        Self::new("routing/10000-routes", 5000, || routing::look_up(10_000)),
        Self::new("sql/select", 200, || sql::classify_each(sql::SELECTS)),
        Self::new("sql/join", 200, || sql::classify_each(sql::JOINS)),
        Self::new("sql/write", 200, || sql::classify_each(sql::WRITES)),
        Self::new("sql/schema", 200, || sql::classify_each(sql::SCHEMA)),
    ];

    const fn new(name: &'static str, times: u64, prepare: fn() -> Prepared) -> Self {
        Self {
            name,
            times,
            prepare,
        }
    }

    /// The work-load of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|load| load.name == name)
    }

    /// Makes ready what the work needs and does it a few times: types are then announced, buffers
    /// grown and schemas made, as they are for all but a stream's first call.
    #[must_use]
    pub fn prepare(&self) -> Prepared {
        const WARM_UP: u64 = 3;
        let mut prepared = (self.prepare)();
        prepared(WARM_UP);
        prepared
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_work_load_runs() {
        for load in WorkLoad::ALL {
            load.prepare()(2);
        }
    }

    #[test]
    fn names_are_told_apart() {
        let names: BTreeSet<_> = WorkLoad::ALL.iter().map(|load| load.name).collect();
        assert_eq!(names.len(), WorkLoad::ALL.len());
        for name in names {
            assert_eq!(WorkLoad::named(name).unwrap().name, name);
        }
    }
}
