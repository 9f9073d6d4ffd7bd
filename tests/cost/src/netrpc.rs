//! net/rpc: calls and their replies, client and server in one thread with a pipe between.

use std::sync::Arc;
use std::time::Duration;

use pinfold_rpc::netrpc::{Client, ClientConfig, Request, ServerConfig, Services, serve};
use tokio::io::duplex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::messages::{CALL_REQUEST, CallArrived, CallRequest, CallResponse, payload};
use crate::runtime::{DUPLEX_BYTES, one_thread};
use crate::work_load::Prepared;

const METHOD: &str = "Plugin.Call";

/// One call by each of so many callers at once.
pub(crate) fn calls(callers: usize, bytes: usize) -> Prepared {
    let runtime = one_thread();
    let client = runtime.block_on(async { connect() });
    let args: Arc<[u8]> = payload(bytes).into();
    Box::new(move |times| {
        runtime.block_on(async {
            if callers == 1 {
                return call(&client, &args, times).await;
            }
            let mut tasks = JoinSet::new();
            for _ in 0..callers {
                let (client, args) = (client.clone(), Arc::clone(&args));
                tasks.spawn(async move { call(&client, &args, times).await });
            }
            tasks.join_all().await;
        });
    })
}

async fn call(client: &Client, args: &[u8], times: u64) {
    for _ in 0..times {
        let deadline = Instant::now() + Duration::from_secs(30);
        let request = CallRequest::of(args);
        let response: CallResponse = client
            .call_with(METHOD, (&CALL_REQUEST, &request), deadline, |body| {
                body.decode()
            })
            .await
            .expect("the other side answers each call");
        assert_eq!(response.result.len(), args.len());
    }
}

/// A client of a server that gives back what it is given.
fn connect() -> Client {
    let (near, far) = duplex(DUPLEX_BYTES);
    let services = Services::new().method(METHOD, |request: Request<CallArrived>| async move {
        Ok(CallResponse {
            result: request.arg.args,
            error: String::new(),
        })
    });
    // Ends with the client's stream, or with the runtime.
    tokio::spawn(serve(far, Arc::new(services), ServerConfig::default()));
    Client::start(near, ClientConfig::default())
}
