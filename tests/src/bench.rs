//! What `make bench` measures, and how: sections, each a question that is put to several subjects in
//! turns, every subject in a control group of its own.
//!
//! ```text
//! bench ── for each round, section, case: each subject in turn
//!   └─ group made ── bench enter GROUP… -- PROGRAM   the subject, born inside
//!        ready → the group's processor time is read → go → … → done → read again → figures
//! ```
//!
//! A [`Section`] says what it asks and measures one subject once; [`rounds`] takes the turns,
//! [`record`] keeps every figure, [`report`] writes the same report for all of them.

mod calls;
mod crowd;
mod daemon;
mod gateway;
mod host_calls;
mod jails;
mod limit;
mod load;
mod memory;
mod neighbours;
mod ours;
mod reload;
mod routes;
mod start;

pub mod group;
pub mod machine;
pub mod plot;
pub mod process;
pub mod record;
pub mod report;
pub mod request;
pub mod rounds;
pub mod section;
pub mod sections;
pub mod wrk;
