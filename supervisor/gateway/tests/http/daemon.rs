//! The daemon as the administration API sees it, of our making.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use chrono::DateTime;
use futures_util::stream::{self, StreamExt as _};
use pinfold_gateway::admin::dto::*;
use pinfold_gateway::admin::{Control, ControlError, ControlFuture, Following, LogsOfAll};
use pinfold_gateway::{Actor, CallError};
use pinfold_policy::{CallContext, PluginId, Route, RouteMethod};

use crate::neighbours::{id, route};

/// A daemon with two plugins, `hello` (ready) and `off` (disabled).
pub(crate) struct Daemon {
    pub(crate) state: Mutex<DaemonState>,
    pub(crate) acts: Mutex<Vec<(String, Actor)>>,
}

impl Daemon {
    fn change<'a>(
        &'a self,
        act: &str,
        plugin: &PluginId,
        actor: Actor,
    ) -> ControlFuture<'a, PluginDetail> {
        self.note(format!("{act} {plugin}"), actor);
        let found = self.plugin(plugin);
        let plugin = plugin.clone();
        Box::pin(async { found.ok_or(ControlError::UnknownPlugin { plugin }) })
    }

    fn note(&self, act: impl Into<String>, actor: Actor) {
        self.acts.lock().unwrap().push((act.into(), actor));
    }
}

fn view(name: &str, state: &str) -> PluginView {
    PluginView {
        id: id(name),
        name: name.into(),
        version: "1.2.0".into(),
        description: "Says hello".into(),
        author: "Ann".into(),
        license: "MIT".into(),
        dialect: "goatflow".into(),
        state: state.into(),
        generation: 1,
        enabled: state != "disabled",
        routes: vec![Route::clone(&route(
            RouteMethod::Get,
            "/hello",
            "echo",
            &[],
        ))],
        since: DateTime::UNIX_EPOCH,
        reason: None,
        trust: Some("pinned digest".into()),
        trust_lost: None,
        trust_unknown: false,
        watched_until: None,
    }
}

fn detail(name: &str, state: &str) -> PluginDetail {
    PluginDetail {
        view: view(name, state),
        digest: Some("sha256:00".into()),
        pid: Some(42),
        taken_over: false,
        handover: None,
        manifest: BTreeMap::new(),
        asked_by_manifest: vec!["db read".into()],
        asked_by_registration: None,
        granted: vec![],
        differences: vec!["db read is asked for and not granted".into()],
        refused: vec![],
        limits: BTreeMap::new(),
        missing_controls: vec![],
        last_exit: None,
        restarts: 0,
        next_start: None,
        health: None,
        rejected: None,
        stats: BTreeMap::new(),
        urls: vec![],
    }
}

fn token_view(id: &str, token: &NewToken) -> TokenView {
    TokenView {
        id: id.into(),
        name: token.name.clone(),
        user: token.user.clone(),
        roles: token.roles.clone(),
        created: DateTime::UNIX_EPOCH,
        expires: token.expires,
        revoked: None,
    }
}

impl Control for Daemon {
    fn status(&self) -> StatusView {
        StatusView {
            version: "0.1.0".into(),
            state: *self.state.lock().unwrap(),
            since: DateTime::UNIX_EPOCH,
            pid: 1,
            mode: "development".into(),
            listeners: vec![],
            plugins: BTreeMap::from([("ready".into(), 1), ("disabled".into(), 1)]),
            still_starting: 0,
            handover: BTreeMap::new(),
            warnings: vec![],
            log: None,
        }
    }

    fn log_filter(&self) -> LogFilterView {
        LogFilterView {
            filter: "info".into(),
            configured: "info".into(),
            until: None,
        }
    }

    fn set_log_filter(
        &self,
        filter: Option<NewLogFilter>,
        _: Actor,
    ) -> ControlFuture<'_, LogFilterView> {
        let wanted = filter.map_or_else(|| "info".into(), |wanted| wanted.filter);
        Box::pin(async move {
            Ok(LogFilterView {
                filter: wanted,
                ..self.log_filter()
            })
        })
    }

    fn plugins(&self) -> Vec<PluginView> {
        vec![view("hello", "ready"), view("off", "disabled")]
    }

    fn plugin(&self, plugin: &PluginId) -> Option<PluginDetail> {
        match plugin.as_str() {
            "hello" => Some(detail("hello", "ready")),
            "off" => Some(detail("off", "disabled")),
            _ => None,
        }
    }

    fn stats<'a>(&'a self, _: &'a PluginId) -> ControlFuture<'a, BTreeMap<String, u64>> {
        Box::pin(async { Ok(BTreeMap::from([("tasks_current".to_owned(), 7)])) })
    }

    fn trust_lost<'a>(&'a self, plugin: &'a PluginId) -> ControlFuture<'a, Option<String>> {
        let lost = match plugin.as_str() {
            "hello" => Ok(Some("key \"release\" was revoked".to_owned())),
            _ => Err(ControlError::UnknownPlugin {
                plugin: plugin.clone(),
            }),
        };
        Box::pin(async { lost })
    }

    fn usage(&self) -> ControlFuture<'_, UsageView> {
        Box::pin(async {
            Ok(UsageView {
                time: DateTime::UNIX_EPOCH,
                resources_time: None,
                plugins: vec![],
            })
        })
    }

    fn metrics(&self) -> ControlFuture<'_, String> {
        Box::pin(async { Ok("# EOF\n".into()) })
    }

    fn logs(&self, _: &PluginId, query: LogQuery) -> Vec<LogRecord> {
        vec![LogRecord {
            time: DateTime::UNIX_EPOCH,
            stream: query.stream.unwrap_or(LogStream::Stderr),
            level: query.level.unwrap_or(LogLevel::Info),
            generation: 1,
            message: format!("limit {}", query.limit),
            fields: serde_json::Map::new(),
        }]
    }

    fn logs_of_all(
        &self,
        plugin: Option<&PluginId>,
        levels: &[LogLevel],
        limit: usize,
    ) -> LogsOfAll {
        let records = ["off", "hello"].into_iter().flat_map(|name| {
            let record = |level: &LogLevel| LogRecord {
                message: format!("{level:?}"),
                level: *level,
                ..self.logs(&id(name), LogQuery::default()).remove(0)
            };
            levels
                .iter()
                .map(move |level| (id(name), record(level)))
                .collect::<Vec<_>>()
        });
        let wanted = records.filter(|(of, _)| plugin.is_none_or(|only| only == of));
        LogsOfAll {
            records: wanted.take(limit).collect(),
            total: 10,
        }
    }

    fn follow_logs(&self, plugin: &PluginId, query: LogQuery) -> Result<Following, ControlError> {
        if plugin.as_str() != "hello" {
            let plugin = plugin.clone();
            return Err(ControlError::UnknownPlugin { plugin });
        }
        let record = self.logs(plugin, query).remove(0);
        Ok(stream::iter([FollowLine::Log(record)])
            .chain(stream::pending())
            .boxed())
    }

    fn events(&self, query: &EventQuery) -> Vec<EventView> {
        vec![EventView {
            number: query.after.unwrap_or(0) + 1,
            time: DateTime::UNIX_EPOCH,
            plugin: query.plugin.clone().unwrap_or_else(|| id("hello")),
            generation: 1,
            kind: "state-changed".into(),
            from: Some("starting".into()),
            to: Some("ready".into()),
            cause: None,
        }]
    }

    fn follow_events(&self, query: &EventQuery) -> Result<Following, ControlError> {
        if query
            .plugin
            .as_ref()
            .is_some_and(|plugin| plugin.as_str() == "off")
        {
            return Err(ControlError::Followers { limit: 64 });
        }
        let event = self.events(query).remove(0);
        let lines = [
            FollowLine::Missed(2),
            FollowLine::Event(event),
            FollowLine::End("the daemon is stopping".into()),
        ];
        Ok(stream::iter(lines).boxed())
    }

    fn enable<'a>(&'a self, plugin: &'a PluginId, actor: Actor) -> ControlFuture<'a, PluginDetail> {
        self.change("enable", plugin, actor)
    }

    fn disable<'a>(
        &'a self,
        plugin: &'a PluginId,
        actor: Actor,
    ) -> ControlFuture<'a, PluginDetail> {
        self.change("disable", plugin, actor)
    }

    fn reload<'a>(&'a self, plugin: &'a PluginId, actor: Actor) -> ControlFuture<'a, PluginDetail> {
        if plugin.as_str() == "off" {
            let plugin = plugin.clone();
            return Box::pin(async { Err(ControlError::Disabled { plugin }) });
        }
        self.change("reload", plugin, actor)
    }

    fn call<'a>(
        &'a self,
        plugin: &'a PluginId,
        function: &'a str,
        arguments: Bytes,
        context: CallContext,
        actor: Actor,
    ) -> ControlFuture<'a, Bytes> {
        self.note(format!("call {plugin} {function}"), actor);
        let source = match (plugin.as_str(), function) {
            ("off", _) => CallError::Disabled,
            ("hello", "echo") => {
                let text = format!(
                    "{{\"arguments\":{},\"request_id\":{:?}}}",
                    String::from_utf8(arguments.into()).unwrap(),
                    context.request_id
                );
                return Box::pin(async move { Ok(text.into()) });
            }
            ("hello", "late") => CallError::Deadline,
            ("hello", _) => CallError::Plugin {
                text: format!("unknown function: {function}"),
            },
            _ => {
                return Box::pin(async {
                    Err(ControlError::UnknownPlugin {
                        plugin: plugin.clone(),
                    })
                });
            }
        };
        Box::pin(async {
            Err(ControlError::Call {
                plugin: plugin.clone(),
                source,
            })
        })
    }

    fn rescan(
        &self,
        plugin: Option<PluginId>,
        why: RescanQuery,
        actor: Actor,
    ) -> ControlFuture<'_, Vec<PluginDetail>> {
        let why = why.because.map_or("", Because::action);
        self.note(format!("rescan {plugin:?}{why}"), actor);
        let details = match plugin {
            None => vec![detail("hello", "ready"), detail("off", "disabled")],
            Some(plugin) => self.plugin(&plugin).into_iter().collect(),
        };
        Box::pin(async { Ok(details) })
    }

    fn take_record(&self, record: RecordId) -> ControlFuture<'_, ()> {
        Box::pin(async move {
            match record.as_str().strip_prefix('0') {
                Some(_) => Ok(()),
                None => Err(ControlError::UnknownRecord { record }),
            }
        })
    }

    fn posture(&self, plugin: Option<PluginId>) -> ControlFuture<'_, PostureView> {
        Box::pin(async {
            if let Some(plugin) = plugin.clone()
                && plugin.as_str() == "broken"
            {
                return Err(ControlError::Failed {
                    action: "ask the launcher",
                    cause: "secret: socket closed".into(),
                });
            }
            Ok(PostureView {
                plugin,
                mode: "root".into(),
                kernel: "6.1.0".into(),
                policy_trust: "operator".into(),
                controls: vec![ControlView {
                    id: "landlock".into(),
                    about: "File access is confined a second time.".into(),
                    wanted: "preferred".into(),
                    state: ControlState::NotBuilt,
                    reason: None,
                }],
                notes: vec![],
            })
        })
    }

    fn create_token(&self, token: NewToken, actor: Actor) -> ControlFuture<'_, CreatedToken> {
        self.note(format!("create token {}", token.name), actor);
        let view = token_view("t2", &token);
        Box::pin(async {
            Ok(CreatedToken {
                token: "pf_new".into(),
                view,
            })
        })
    }

    fn list_tokens(&self) -> ControlFuture<'_, Vec<TokenView>> {
        let token = NewToken {
            name: "ci".into(),
            user: "ann".into(),
            roles: vec![],
            expires: None,
        };
        Box::pin(async move { Ok(vec![token_view("t1", &token)]) })
    }

    fn revoke_token(&self, id: String, actor: Actor) -> ControlFuture<'_, ()> {
        self.note(format!("revoke token {id}"), actor);
        Box::pin(async move {
            if id == "t1" {
                Ok(())
            } else {
                Err(ControlError::UnknownToken { id })
            }
        })
    }
}
