//! `pinfold policy show`: everything that holds for a plugin, each value with where it is from.

mod jail;

use pinfold_hostapi::{DEFAULT_CALLS_PER_SECOND, DEFAULT_REQUESTS_PER_MINUTE};
use pinfold_policy::{
    ByteSize, Control, ControlWish, Exec, Moment, PluginId, PolicyFile, ProcView, RequireSignatures,
};
use serde::Serialize;

use super::origin::Origin;
use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::cli::output::Page;
use crate::cli::review::{self, Policy, Review};
use crate::keys;

/// One thing that holds.
#[derive(Debug, Serialize)]
struct Row {
    /// Dotted, as the documents have it; of permissions what the line permits.
    key: String,
    value: String,
    origin: Origin,
}

/// Everything, by what it is about.
#[derive(Debug, Serialize)]
struct Effective {
    plugin: PluginId,
    policy_file: String,
    /// Whether the daemon wrote the policy itself (development grants).
    development_policy: bool,
    sections: Vec<Section>,
}

#[derive(Debug, Serialize)]
struct Section {
    title: &'static str,
    rows: Vec<Row>,
}

pub(super) fn run(context: &Context, plugin: &PluginId) -> Result<(), Failure> {
    let review = Review::open(&context.place)?;
    let policy = review.policy(plugin)?;
    let rows = Rows { policy: &policy };
    let sections = vec![
        section("program", rows.program()),
        section("trust", trust(&review, plugin, &rows)),
        section("permissions", rows.permissions()),
        section("limits", rows.limits()),
        section("times", rows.times()),
        section("rates", rows.rates()),
        section("controls", rows.controls()),
        section("jail", jail::template(&review, plugin, &rows)?),
        section("environment", jail::environment(&review, plugin, &rows)?),
        section("syscall profile", jail::profile(&review, &rows)?),
    ];
    let effective = Effective {
        plugin: plugin.clone(),
        policy_file: policy.path.display().to_string(),
        development_policy: policy.is_development,
        sections,
    };
    Ok(context.output.give(&effective, page)?)
}

const fn section(title: &'static str, rows: Vec<Row>) -> Section {
    Section { title, rows }
}

fn page(effective: &Effective) -> Page {
    let mut page = Page::default();
    let by = if effective.development_policy {
        " (written by the daemon: development grants)"
    } else {
        ""
    };
    page.line(format_args!(
        "plugin {}: {}{by}",
        effective.plugin, effective.policy_file
    ));
    for Section { title, rows } in &effective.sections {
        page.gap().line(title);
        if rows.is_empty() {
            page.line("  none");
            continue;
        }
        let widest = |text: fn(&Row) -> usize| rows.iter().map(text).max().unwrap_or(0).min(60);
        let (keys, values) = (
            widest(|row| row.key.chars().count()),
            widest(|row| row.value.chars().count()),
        );
        for Row { key, value, origin } in rows {
            page.line(format_args!("  {key:<keys$}  {value:<values$}  {origin}"));
        }
    }
    page
}

/// Rows of one policy.
struct Rows<'a> {
    policy: &'a Policy,
}

impl Rows<'_> {
    fn file(&self) -> &PolicyFile {
        &self.policy.file
    }

    /// Where a value is from: its line in the policy, or the default.
    fn origin(&self, path: &str) -> Origin {
        let places = &self.policy.places;
        match places.value(path) {
            None => Origin::default(),
            place => Origin::of("policy", Some(&self.policy.path), places, place),
        }
    }

    fn row(&self, key: &str, value: impl ToString) -> Row {
        Row {
            key: key.to_owned(),
            value: value.to_string(),
            origin: self.origin(key),
        }
    }

    fn program(&self) -> Vec<Row> {
        let file = self.file();
        let mut rows = vec![
            self.row("schema", file.schema),
            self.row("dialect", &file.dialect),
            self.row("entry", &file.entry),
            self.row("args", format_args!("{:?}", file.args)),
            self.row("profile", &file.profile),
            self.row("exec", exec_word(file.exec)),
            self.row("syscall-groups", format_args!("{:?}", file.syscall_groups)),
            self.row("loopback", file.loopback),
            self.row("proc", proc_word(file.proc)),
        ];
        if let Some(runtime) = &file.runtime {
            let programs = [
                ("runtime.interpreter", &runtime.interpreter),
                ("runtime.loader", &runtime.loader),
            ];
            let named = programs
                .into_iter()
                .filter_map(|(key, program)| Some((key, program.as_ref()?)));
            rows.extend(named.map(|(key, program)| self.row(key, program)));
            rows.push(self.row("runtime.args", format_args!("{:?}", runtime.args)));
            rows.push(self.row("runtime.paths", format_args!("{:?}", runtime.paths)));
        }
        for (at, mount) in file.mounts.iter().enumerate() {
            let path = format!("mounts[{at}]");
            let how = if mount.rw {
                "read and written"
            } else {
                "read-only"
            };
            let place = self.policy.places.nearest(&path);
            rows.push(Row {
                key: path,
                value: format!("{} of the host at {}, {how}", mount.source, mount.target),
                origin: Origin::of(
                    "policy",
                    Some(&self.policy.path),
                    &self.policy.places,
                    place,
                ),
            });
        }
        rows
    }

    fn permissions(&self) -> Vec<Row> {
        let places = &self.policy.places;
        let mut rows = Vec::new();
        for grain in self.file().permissions.grains() {
            let place = places.nearest(&grain.path);
            for line in grain.permissions.lines() {
                rows.push(Row {
                    key: line,
                    value: "granted".into(),
                    origin: Origin::of("policy", Some(&self.policy.path), places, place),
                });
            }
        }
        rows
    }

    fn limits(&self) -> Vec<Row> {
        let limits = &self.file().limits;
        let io = &limits.io;
        let or_unlimited = |limit: Option<String>| limit.unwrap_or_else(|| "unlimited".into());
        let size = |size: ByteSize| size.to_string();
        let count = |count: u32| count.to_string();
        vec![
            self.row("limits.memory", limits.memory),
            self.row("limits.cpu", limits.cpu),
            self.row("limits.processes", limits.processes),
            self.row("limits.tmp", limits.tmp),
            self.row("limits.files", limits.files),
            self.row("limits.file-size", limits.file_size),
            self.row("limits.state", limits.state),
            self.row("limits.state-files", limits.state_files),
            self.row("limits.cpu-affinity", limits.processors()),
            self.row("limits.io.read", or_unlimited(io.read.map(size))),
            self.row("limits.io.write", or_unlimited(io.write.map(size))),
            self.row("limits.io.read-ops", or_unlimited(io.read_ops.map(count))),
            self.row("limits.io.write-ops", or_unlimited(io.write_ops.map(count))),
        ]
    }

    fn times(&self) -> Vec<Row> {
        let times = &self.file().timeouts;
        vec![
            self.row("timeouts.handshake", times.handshake),
            self.row("timeouts.init", times.init),
            self.row("timeouts.call", times.call),
            self.row("timeouts.shutdown", times.shutdown),
            self.row("timeouts.quit", times.quit),
        ]
    }

    fn rates(&self) -> Vec<Row> {
        let rates = &self.file().rates;
        let or = |rate: Option<u32>, default: Option<u32>| {
            rate.or(default)
                .map_or("unlimited".to_owned(), |rate| rate.to_string())
        };
        vec![
            self.row("rates.calls-per-second", or(rates.calls_per_second, None)),
            self.row(
                "rates.host-calls-per-second",
                or(rates.host_calls_per_second, Some(DEFAULT_CALLS_PER_SECOND)),
            ),
            self.row(
                "rates.queries-per-minute",
                or(rates.queries_per_minute, None),
            ),
            self.row(
                "rates.http-requests-per-minute",
                or(
                    rates.http_requests_per_minute,
                    Some(DEFAULT_REQUESTS_PER_MINUTE),
                ),
            ),
        ]
    }

    fn controls(&self) -> Vec<Row> {
        let file = self.file();
        let of = |control: &Control| {
            let path = format!("controls.{control}");
            let value = match file.controls.get(control.id()) {
                Some(ControlWish::Lowered { wanted, reason }) => {
                    format!("{wanted} (i-accept-the-risk: {reason})")
                }
                _ => file.wanted(*control).to_string(),
            };
            let mut row = self.row(&path, value);
            if file.controls.contains_key(control.id()) {
                let place = self.policy.places.nearest(&path);
                row.origin = Origin::of(
                    "policy",
                    Some(&self.policy.path),
                    &self.policy.places,
                    place,
                );
            }
            row
        };
        Control::ALL.iter().map(of).collect()
    }
}

const fn exec_word(exec: Exec) -> &'static str {
    match exec {
        Exec::Entry => "entry",
        Exec::Stage => "stage",
    }
}

const fn proc_word(proc: ProcView) -> &'static str {
    match proc {
        ProcView::Pid => "pid",
        ProcView::Full => "full",
    }
}

/// What makes the files trusted, with what the keys that are named are good for.
fn trust(review: &Review, plugin: &PluginId, rows: &Rows<'_>) -> Vec<Row> {
    let trust = &rows.file().trust;
    let mut all = Vec::new();
    if let Some(digest) = &trust.digest {
        all.push(rows.row("trust.digest", digest));
    }
    if trust.unsigned {
        all.push(rows.row("trust.unsigned", true));
    }
    let here = review.keys().unwrap_or_default();
    for (at, name) in trust.signed_by.iter().enumerate() {
        let mut row = rows.row(&format!("trust.signed-by[{at}]"), name);
        row.key = "trust.signed-by".into();
        all.push(row);
        let found = here.iter().find(|key| key.name == *name);
        let value = match found.map(|found| &found.key) {
            None => "there is no such key".to_owned(),
            Some(Err(error)) => review::chain(error),
            Some(Ok(key)) => match key.may_sign(plugin, keys::now()) {
                Ok(()) => format!("counts{}", until(key.rules.expires)),
                Err(refusal) => refusal.to_string(),
            },
        };
        let file = review.config.keys_dir.join(name.rules_file());
        all.push(Row {
            key: format!("key {name}"),
            value,
            origin: Origin::file("key", &file),
        });
    }
    if trust.package {
        all.push(rows.row("trust.package", true));
    }
    if let Some(least) = &trust.least_version {
        all.push(rows.row("trust.least-version", least));
    }
    let path = "require-signatures";
    let places = &review.config_places;
    all.push(Row {
        key: path.to_owned(),
        value: match review.requires_signatures() {
            RequireSignatures::None => "false",
            RequireSignatures::Any => "true",
            RequireSignatures::Package => "package",
        }
        .to_owned(),
        origin: match places.value(path) {
            None => Origin::default(),
            place => Origin::of("launcher", Some(&review.config_file), places, place),
        },
    });
    all
}

fn until(expires: Option<Moment>) -> String {
    expires.map_or_else(String::new, |time| format!(" until {time}"))
}
