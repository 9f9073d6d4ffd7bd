//! The goatflow dialect: go-plugin binaries over net/rpc, as GoatFlow runs them, in all four
//! generations of the contract.
//!
//! `manifest` and `registration` turn what a plugin says of itself into the common model; `start`
//! takes a process to the point where it serves; `instance` calls it, with `arguments` and `reply`
//! between HTTP and its JSON; `callback` and `host` answer its calls back. `wire` has the structs
//! that travel.

mod arguments;
mod callback;
mod first;
mod host;
mod instance;
mod manifest;
mod permissions;
mod registration;
mod reply;
mod sent;
mod start;
mod wire;

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use pinfold_policy::PluginId;
use pinfold_rpc::handshake::{PortRange, environment};
use tokio::net::unix::pipe;

use super::{Dialect, DialectError, Process, Started};
use crate::chain::Chain;
use crate::stage::StageFiles;

/// Name of the manifest's file.
const MANIFEST_FILE: &str = "plugin.yaml";
/// Name under which a plugin is dispensed.
const DISPENSED: &str = "gkplugin";
/// What tells a plugin that a host has started it. It is no secret.
const COOKIE_KEY: &str = "GOATKIT_PLUGIN";
const COOKIE_VALUE: &str = "goatkit-v1";
/// Version of the contract that plugins are told as `host_version`: they compare it with the least
/// GoatFlow version that they need.
const HOST_VERSION: &str = "0.10.0";

/// The dialect.
pub(crate) struct Goatflow;

impl Dialect for Goatflow {
    fn name(&self) -> &'static str {
        "goatflow"
    }

    fn manifest_file(&self) -> &'static str {
        MANIFEST_FILE
    }

    fn plugin_name(&self, stage: &StageFiles) -> Result<PluginId, DialectError> {
        manifest::Manifest::name(&read_manifest(stage)?).map_err(|error| refused(&error))
    }

    fn manifest(
        &self,
        plugin: &PluginId,
        stage: &StageFiles,
    ) -> Result<super::Manifest, DialectError> {
        let manifest = manifest::Manifest::parse(&read_manifest(stage)?, plugin);
        Ok(manifest.map_err(|error| refused(&error))?.into())
    }

    fn launch_values(&self) -> BTreeMap<String, String> {
        let ports = PortRange::default();
        let cookie = (COOKIE_KEY, COOKIE_VALUE);
        environment(cookie.0, cookie.1, &[start::PROTOCOL_VERSION], ports)
            .into_iter()
            .collect()
    }

    fn start(
        &self,
        process: Process,
        stdout: pipe::Receiver,
    ) -> BoxFuture<'_, Result<Started, DialectError>> {
        start::start(process, stdout).boxed()
    }
}

fn read_manifest(stage: &StageFiles) -> Result<Vec<u8>, DialectError> {
    stage
        .read(MANIFEST_FILE, manifest::MANIFEST_LIMIT_BYTES)
        .map_err(|error| refused(&error))
}

fn refused(error: &dyn std::error::Error) -> DialectError {
    DialectError::Manifest {
        file: MANIFEST_FILE,
        reason: Chain(error).to_string(),
    }
}

impl From<manifest::Manifest> for super::Manifest {
    fn from(manifest: manifest::Manifest) -> Self {
        let manifest::Wishes {
            memory,
            call,
            init,
            shutdown,
        } = manifest.wishes;
        Self {
            version: manifest.version,
            description: manifest.description,
            author: manifest.author,
            license: manifest.license,
            entry: manifest.entry,
            asked: manifest.asked,
            wished_memory: memory,
            wished_call: call,
            wished_init: init,
            wished_shutdown: shutdown,
        }
    }
}
