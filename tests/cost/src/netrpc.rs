//! net/rpc: calls and their replies, client and server in one thread.

use std::sync::Arc;
use std::time::Duration;

use pinfold_rpc::netrpc::{Client, ClientConfig, Request, ServerConfig, Services, serve};
use tokio::io::{AsyncRead, AsyncWrite, duplex};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::messages::{CALL_REQUEST, CallArrived, CallRequest, CallResponse, payload};
use crate::runtime::{DUPLEX_BYTES, one_thread};
use crate::work_load::Prepared;
use crate::yamux;

const METHOD: &str = "Plugin.Call";

/// One call by each of so many callers at once, client and server on the two ends of a pipe.
pub(crate) fn calls(callers: usize, bytes: usize) -> Prepared {
    let runtime = one_thread();
    let client = runtime.block_on(async {
        let (near, far) = duplex(DUPLEX_BYTES);
        answer(far);
        Client::start(near, ClientConfig::default())
    });
    run(runtime, client, (), callers, bytes)
}

/// The same as a plugin is called: on a stream of a yamux connection, whose task takes the replies apart.
pub(crate) fn direct_calls(callers: usize, bytes: usize) -> Prepared {
    let runtime = one_thread();
    let (client, sessions) = runtime.block_on(async {
        let (sessions, stream, other) = yamux::connect().await;
        answer(other);
        let client = Client::start_direct(stream, ClientConfig::default());
        (client, sessions)
    });
    run(runtime, client, sessions, callers, bytes)
}

/// `kept` lasts as long as the work.
fn run<K: 'static>(
    runtime: Runtime,
    client: Client,
    kept: K,
    callers: usize,
    bytes: usize,
) -> Prepared {
    let args: Arc<[u8]> = payload(bytes).into();
    Box::new(move |times| {
        let _last = &kept;
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

/// Serves a stream: the reply is what the argument was. Needs a runtime, and ends with the stream or with that.
fn answer(stream: impl AsyncRead + AsyncWrite + Send + 'static) {
    let services = Services::new().method(METHOD, |request: Request<CallArrived>| async move {
        Ok(CallResponse {
            result: request.arg.args,
            error: String::new(),
        })
    });
    tokio::spawn(serve(stream, Arc::new(services), ServerConfig::default()));
}
