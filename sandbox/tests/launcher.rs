//! The launcher as its daemon sees it: real requests, real jails, real kernel. Each test has a
//! launcher of its own with directories that end with it.
#![expect(clippy::unwrap_used, reason = "a test asserts by panicking")]

#[path = "launcher/aftermath.rs"]
mod aftermath;
#[path = "launcher/decoder.rs"]
mod decoder;
#[path = "launcher/decoder_body.rs"]
mod decoder_body;
#[path = "launcher/disks.rs"]
mod disks;
#[path = "launcher/ends.rs"]
mod ends;
#[path = "launcher/handover.rs"]
mod handover;
#[path = "launcher/lies.rs"]
mod lies;
#[path = "launcher/lying_daemon.rs"]
mod lying_daemon;
#[path = "launcher/machine.rs"]
mod machine;
#[path = "launcher/mounts.rs"]
mod mounts;
#[path = "launcher/networks.rs"]
mod networks;
#[path = "launcher/options.rs"]
mod options;
#[path = "launcher/packages.rs"]
mod packages;
#[path = "abilities/patience.rs"]
mod patience;
#[path = "launcher/policies.rs"]
mod policies;
#[path = "launcher/ports.rs"]
mod ports;
#[path = "launcher/postures.rs"]
mod postures;
#[path = "launcher/profiles.rs"]
mod profiles;
#[path = "launcher/quotas.rs"]
mod quotas;
#[path = "launcher/rechecks.rs"]
mod rechecks;
#[path = "launcher/runtimes.rs"]
mod runtimes;
#[path = "abilities/skip.rs"]
mod skip;
#[path = "launcher/sockets.rs"]
mod sockets;
#[path = "launcher/staging.rs"]
mod staging;
#[path = "launcher/starts.rs"]
mod starts;
#[path = "launcher/trust.rs"]
mod trust;
#[path = "launcher/user_mode.rs"]
mod user_mode;
#[path = "launcher/watched.rs"]
mod watched;
#[path = "launcher/workloads.rs"]
mod workloads;
