//! What a plugin is and may do, as pure data: ids, sizes, digests, permissions, policy files,
//! launch templates, signatures and the keys that make them, the launcher's configuration, and the
//! common model of what a plugin offers.
//!
//! No I/O, no async, no clock, no YAML. Text becomes a type here, once; nothing further in
//! re-checks a string.
//!
//! Main types: [`PluginId`], [`PolicyFile`], [`Permissions`] and [`Effective`] (what is asked,
//! granted, and both), [`LaunchTemplate`], [`LauncherConfig`], [`StageManifest`] and its
//! [`Digest`], [`Signature`] and [`TrustedKey`], [`Offer`] and [`CallContext`].
#![forbid(unsafe_code)]

mod control;
mod digest;
pub mod document;
mod grain;
mod hex;
mod host_path;
mod http_grant;
mod http_path;
mod id;
mod key;
mod launcher_config;
pub mod lint;
mod model;
mod moment;
mod mount;
mod network;
mod package;
mod permission;
mod places;
mod policy_file;
mod printable;
mod private_key;
mod quantity;
mod refusal;
mod runtime;
mod schema;
mod signature;
mod suggest;
mod template;
mod version;
mod watch;

pub use control::{Control, Wanted};
pub use digest::{Digest, DigestParseError, StageManifest, StagedFile};
pub use grain::{Grain, sources};
pub use host_path::lies_in;
pub use http_grant::{HttpGrant, HttpTarget, TUNNEL};
pub use http_path::PathPattern;
pub use id::{Generation, InstanceId, PluginId, PluginIdError};
pub use key::{
    KEYS_LIMIT, KeyName, KeyNameError, KeyRefusal, KeyRules, KeyRulesError, PUBLIC_KEY_LIMIT_BYTES,
    REASON_LIMIT_BYTES, Revoked, Standing, TrustedKey,
};
pub use launcher_config::{
    DevGrants, LauncherConfig, LauncherConfigError, NETNS_POOL, NETNS_POOL_LIMIT, PROBE_INTERVAL,
    PROBE_INTERVAL_LEAST, REQUIRE_SIGNATURES, RequireSignatures, STAGES_MEMORY, UidRange,
};
pub use model::{CallContext, Middleware, Offer, Route, RouteMethod, User};
pub use moment::{Moment, MomentError};
pub use mount::{MOUNTS_LIMIT, Mount};
pub use network::{Network, NetworkError};
pub use package::{
    CLOCK_LEEWAY_SECONDS, PACKAGE_SIGNATURE_FILE, PACKAGE_SIGNATURE_LIMIT_BYTES, PackageSignature,
    PackageSignatureError, Platform, Statement, StatementRefusal,
};
pub use permission::{Access, DbGrant, Pattern, Permissions};
pub use places::{Place, Places};
pub use policy_file::{
    ControlWish, Exec, IoLimits, Limits, PolicyError, PolicyFault, PolicyFile, ProcView, Rates,
    Timeouts, Trust,
};
pub use printable::{escape, is_unprintable};
pub use private_key::{PrivateKey, PrivateKeyError};
pub use quantity::{ByteSize, CpuShare, QuantityError, Span};
pub use refusal::{Effective, Refusal};
pub use runtime::{RUNTIME_PATHS_LIMIT, Runtime};
pub use schema::{POLICY_SCHEMA, POLICY_SCHEMA_LINE};
pub use signature::{
    FileHash, PublicKey, PublicKeyError, SIGNATURE_LIMIT_BYTES, SIGNATURE_SUFFIX, Signature,
    SignatureError,
};
pub use suggest::{UnknownKey, nearest};
pub use template::{
    CharacterClass, FROM_DAEMON_LIMIT_BYTES, FromDaemon, LaunchTemplate, TemplateError,
    TemplateInput,
};
pub use version::{Version, VersionError};
pub use watch::{
    RecordError, WATCH_DIRECTORY, WATCH_LIMIT_SECONDS, WATCH_RECORD_LIMIT_BYTES,
    WATCH_RECORDS_LIMIT, WatchHead, WatchOrder, WatchOrderError, WatchRecord, WatchedCall,
};
