//! Jails started for real, looked at from outside and from inside.

mod jail {
    pub mod harness;
    mod running;
}
