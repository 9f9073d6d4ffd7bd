//! GoatFlow's management paths, `/api/v1/plugins`: the list, logs, switching plugins on and off,
//! and calling a function. Its other ones are not there.

mod logs;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use pinfold_policy::{CallContext, PluginId, Route, RouteMethod};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::admin::dto::PluginView;
use crate::admin::{Control, ControlError, in_time};
use crate::audit::Actor;
use crate::config::ListForm;
use crate::failure::Failure;
use crate::path::decode_parameter;
use crate::plugin::CallError;
use crate::refusal::Refusal;
use crate::respond;
use crate::route::Needs;

/// Longest name of a function in bytes.
pub(crate) const FUNCTION_LIMIT_BYTES: usize = 256;

/// One of the management operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    List,
    Logs,
    Enable { plugin: String },
    Disable { plugin: String },
    Call { plugin: String, function: String },
}

impl Operation {
    pub(crate) const fn needs(&self) -> Needs {
        match self {
            Self::List => Needs::User,
            _ => Needs::Admin,
        }
    }

    pub(crate) const fn pattern(&self) -> &'static str {
        match self {
            Self::List => "/api/v1/plugins",
            Self::Logs => "/api/v1/plugins/logs",
            Self::Enable { .. } => "/api/v1/plugins/{name}/enable",
            Self::Disable { .. } => "/api/v1/plugins/{name}/disable",
            Self::Call { .. } => "/api/v1/plugins/{name}/call/{fn}",
        }
    }
}

/// Finds the operation of a canonical path below `/api/v1/plugins`.
pub(crate) fn route(method: &Method, canonical: &str) -> Result<Operation, Refusal> {
    let segments: Vec<_> = canonical.split('/').skip(4).collect();
    let operation = match segments.as_slice() {
        [] => Operation::List,
        ["logs"] => Operation::Logs,
        [plugin, "enable"] if !plugin.is_empty() => Operation::Enable {
            plugin: decode_parameter(plugin),
        },
        [plugin, "disable"] if !plugin.is_empty() => Operation::Disable {
            plugin: decode_parameter(plugin),
        },
        [plugin, "call", function] if !plugin.is_empty() && !function.is_empty() => {
            Operation::Call {
                plugin: decode_parameter(plugin),
                function: decode_parameter(function),
            }
        }
        _ => return Err(Refusal::NotFound),
    };
    let wanted = match operation {
        Operation::List | Operation::Logs => RouteMethod::Get,
        _ => RouteMethod::Post,
    };
    let is_it = match wanted {
        RouteMethod::Get => matches!(*method, Method::GET | Method::HEAD),
        _ => *method == Method::POST,
    };
    if is_it {
        Ok(operation)
    } else {
        Err(Refusal::Method {
            allowed: vec![wanted],
        })
    }
}

/// The list of plugins.
pub(crate) fn list(control: &dyn Control, form: ListForm) -> Response<Full<Bytes>> {
    let views = control.plugins();
    let entries: Vec<_> = views.iter().map(ListEntry::of).collect();
    let body = match form {
        ListForm::Array => serde_json::to_vec(&entries),
        ListForm::Object => serde_json::to_vec(&ListObject { plugins: &entries }),
    };
    let body = body.expect("a list of plugins is plain data");
    respond::json_answer(StatusCode::OK, body.into())
}

/// What plugins printed and logged.
pub(crate) fn logs(
    control: &dyn Control,
    query: Option<&str>,
) -> Result<Response<Full<Bytes>>, Failure> {
    Ok(logs::answer(control, &logs::Query::read(query)?))
}

/// Switches a plugin on. It may still fail to start: the list says whether it is loaded.
pub(crate) async fn enable(
    control: &dyn Control,
    plugin: &str,
    actor: Actor,
) -> Result<Response<Full<Bytes>>, Failure> {
    in_time(control.enable(&find(plugin)?, actor)).await?;
    Ok(status("enabled"))
}

/// Switches a plugin off.
pub(crate) async fn disable(
    control: &dyn Control,
    plugin: &str,
    actor: Actor,
) -> Result<Response<Full<Bytes>>, Failure> {
    in_time(control.disable(&find(plugin)?, actor)).await?;
    Ok(status("disabled"))
}

fn status(word: &str) -> Response<Full<Bytes>> {
    respond::json_answer(StatusCode::OK, format!("{{\"status\":\"{word}\"}}").into())
}

/// The plugin of this name, where a plugin could have it.
fn find(plugin: &str) -> Result<PluginId, Failure> {
    let text = || format!("plugin {plugin:?} not found");
    PluginId::parse(plugin)
        .map_err(|_| Failure::plain(StatusCode::NOT_FOUND, "control.unknown_plugin", text()))
}

/// Calls a function: the body is its arguments, the answer its result.
pub(crate) async fn call(
    control: &dyn Control,
    plugin: &str,
    function: &str,
    body: Bytes,
    context: CallContext,
    actor: Actor,
) -> Result<Response<Full<Bytes>>, Failure> {
    let arguments = arguments(body)?;
    check_function(function)?;
    let id = find(plugin)?;
    let result = control.call(&id, function, arguments, context, actor).await;
    match result {
        Ok(result) => Ok(respond::json_answer(StatusCode::OK, result)),
        Err(error) => Err(failure(error, plugin, function)),
    }
}

/// Arguments of a call: JSON text, or nothing, which is an empty object.
pub(crate) fn arguments(body: Bytes) -> Result<Bytes, Failure> {
    if body.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    match serde_json::from_slice::<&RawValue>(&body) {
        Ok(_) => Ok(body),
        Err(error) => Err(Failure::plain(
            StatusCode::BAD_REQUEST,
            "gateway.arguments",
            format!("request body is not JSON: {error}"),
        )),
    }
}

/// Checks the name of a function before anything is asked of a plugin.
pub(crate) fn check_function(function: &str) -> Result<(), Failure> {
    if function.len() <= FUNCTION_LIMIT_BYTES {
        return Ok(());
    }
    Err(Failure::plain(
        StatusCode::BAD_REQUEST,
        "gateway.function",
        format!("name of the function has more than {FUNCTION_LIMIT_BYTES} bytes"),
    ))
}

/// GoatFlow's texts and statuses: a plugin's own error is 400 here, not 500.
fn failure(error: ControlError, plugin: &str, function: &str) -> Failure {
    let call = match &error {
        ControlError::Call { source, .. } => Some(source.clone()),
        _ => None,
    };
    let mut failure = Failure::from(error);
    match call {
        Some(CallError::Plugin { .. }) => failure.status = StatusCode::BAD_REQUEST,
        Some(CallError::Disabled) => failure.text = format!("plugin {plugin:?} is disabled"),
        Some(CallError::Deadline) => {
            failure.text =
                format!("plugin {plugin:?} call {function:?}: context deadline exceeded");
        }
        _ => {}
    }
    failure
}

#[derive(Serialize)]
struct ListObject<'a> {
    plugins: &'a [ListEntry<'a>],
}

/// One plugin: the keys of GoatFlow's API, and those of its tutorial.
#[derive(Serialize)]
struct ListEntry<'a> {
    #[serde(rename = "Name")]
    tutorial_name: &'a str,
    #[serde(rename = "Version")]
    tutorial_version: &'a str,
    #[serde(rename = "Description")]
    tutorial_description: &'a str,
    #[serde(rename = "Author")]
    tutorial_author: &'a str,
    #[serde(rename = "License")]
    tutorial_license: &'a str,
    name: &'a str,
    version: &'a str,
    description: &'a str,
    author: &'a str,
    license: &'a str,
    routes: &'a [Route],
    /// Widgets, jobs and menu entries are not served, so none is listed.
    widgets: [(); 0],
    jobs: [(); 0],
    #[serde(rename = "menuItems")]
    menu_items: [(); 0],
    enabled: bool,
    loaded: bool,
}

impl<'a> ListEntry<'a> {
    fn of(view: &'a PluginView) -> Self {
        Self {
            tutorial_name: &view.name,
            tutorial_version: &view.version,
            tutorial_description: &view.description,
            tutorial_author: &view.author,
            tutorial_license: &view.license,
            name: &view.name,
            version: &view.version,
            description: &view.description,
            author: &view.author,
            license: &view.license,
            routes: &view.routes,
            widgets: [],
            jobs: [],
            menu_items: [],
            enabled: view.enabled,
            loaded: view.is_loaded(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_operations_are_there_and_no_more() {
        let code = |method: Method, path| route(&method, path).map_err(|refusal| refusal.code());
        assert_eq!(code(Method::GET, "/api/v1/plugins"), Ok(Operation::List));
        assert_eq!(
            code(Method::POST, "/api/v1/plugins/hello/call/say%2Fit"),
            Ok(Operation::Call {
                plugin: "hello".into(),
                function: "say/it".into()
            })
        );
        assert_eq!(
            code(Method::GET, "/api/v1/plugins/logs"),
            Ok(Operation::Logs)
        );
        let plugin = || "logs".to_owned();
        assert_eq!(
            code(Method::POST, "/api/v1/plugins/logs/enable"),
            Ok(Operation::Enable { plugin: plugin() })
        );
        assert_eq!(
            code(Method::POST, "/api/v1/plugins/logs/disable"),
            Ok(Operation::Disable { plugin: plugin() })
        );
        let wrong_method = Err("gateway.method_not_allowed");
        assert_eq!(code(Method::DELETE, "/api/v1/plugins"), wrong_method);
        assert_eq!(
            code(Method::GET, "/api/v1/plugins/hello/call/say"),
            wrong_method
        );
        assert_eq!(code(Method::DELETE, "/api/v1/plugins/logs"), wrong_method);
        assert_eq!(code(Method::GET, "/api/v1/plugins/a/enable"), wrong_method);
        for path in [
            "/",
            "/hello",
            "/hello/reload",
            "/hello/widgets/w",
            "/hello/events/c",
            "/widgets",
            "/upload",
            "/health",
            "//enable",
            "//call/x",
            "/hello/call/",
            "/a/call/b/c",
        ] {
            let path = format!("/api/v1/plugins{path}");
            assert_eq!(
                route(&Method::POST, &path).map_err(|r| r.code()),
                Err("gateway.not_found")
            );
        }
    }

    #[test]
    fn arguments_are_json_or_nothing() {
        assert_eq!(arguments(Bytes::new()).unwrap(), "{}");
        assert_eq!(arguments(Bytes::from(" [1, 2]")).unwrap(), " [1, 2]");
        for odd in ["{", "nothing", "{} {}", "\u{feff}{}"] {
            assert_eq!(
                arguments(Bytes::from(odd)).unwrap_err().status,
                StatusCode::BAD_REQUEST
            );
        }
        assert!(arguments(Bytes::from_static(b"\"\xff\"")).is_err());
    }
}
