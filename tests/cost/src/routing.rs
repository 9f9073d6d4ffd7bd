//! Routing: which route a request's method and path go to.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Method;
use pinfold_gateway::{
    CallError, Capacity, Entry, GatewayConfig, Instance, PluginRequest, PluginResponse,
    ROUTES_PER_PLUGIN_LIMIT, Table,
};
use pinfold_policy::{CallContext, Generation, PluginId, Route, RouteMethod};

use crate::work_load::Prepared;

/// Requests of one round.
const REQUESTS: usize = 8;

/// Looks up eight paths, spread over a table of so many routes of as few plugins as may have them.
/// Every second route has two parameters.
pub(crate) fn look_up(routes: usize) -> Prepared {
    let capacity = Capacity::new(&GatewayConfig::default());
    let numbers: Vec<_> = (0..routes).collect();
    let entries = numbers.chunks(ROUTES_PER_PLUGIN_LIMIT).enumerate();
    let entries = entries
        .map(|(plugin, numbers)| entry(plugin, numbers, &capacity))
        .collect();
    let (table, conflicts) = Table::build(entries);
    assert!(conflicts.is_empty(), "{conflicts:?}");
    let paths: Vec<_> = (0..REQUESTS)
        .map(|request| requested(request * (routes - 1) / (REQUESTS - 1)))
        .collect();
    Box::new(move |times| {
        for _ in 0..times {
            for path in &paths {
                let found = table.route_for(&Method::GET, black_box(path));
                assert!(black_box(found).is_some(), "{path} has a route");
            }
        }
    })
}

fn entry(plugin: usize, numbers: &[usize], capacity: &Capacity) -> Arc<Entry> {
    let routes = numbers.iter().map(|number| {
        Arc::new(Route {
            method: RouteMethod::Get,
            path: declared(*number),
            handler: "handler".to_owned(),
            middleware: vec![],
            description: String::new(),
        })
    });
    Arc::new(Entry {
        plugin: PluginId::parse(&format!("plugin-{plugin}")).expect("letters, digits, a hyphen"),
        version: "1.0.0".to_owned(),
        generation: Generation(1),
        routes: routes.collect(),
        instance: Arc::new(Silent),
        call_timeout: Duration::from_secs(30),
        calls_per_second: None,
        meter: capacity.meter(),
    })
}

fn declared(number: usize) -> String {
    if number % 2 == 1 {
        format!("/api/collection-{number}/{{id}}/items/{{item}}")
    } else {
        format!("/api/collection-{number}/items")
    }
}

fn requested(number: usize) -> String {
    if number % 2 == 1 {
        format!("/api/collection-{number}/42/items/caf%C3%A9")
    } else {
        format!("/api/collection-{number}/items")
    }
}

/// An instance that is never asked.
struct Silent;

impl Instance for Silent {
    fn http(
        &self,
        _: PluginRequest,
        _: CallContext,
    ) -> BoxFuture<'_, Result<PluginResponse, CallError>> {
        Box::pin(async { Err(CallError::Disabled) })
    }

    fn call(&self, _: &str, _: Bytes, _: CallContext) -> BoxFuture<'_, Result<Bytes, CallError>> {
        Box::pin(async { Err(CallError::Disabled) })
    }

    fn ping(&self, _: CallContext) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(async { Err(CallError::Disabled) })
    }
}
