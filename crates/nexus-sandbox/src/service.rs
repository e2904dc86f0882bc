//! A running service: a thread with its own runtime, listening on 127.0.0.1.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::S3ServiceBuilder;
use s3s::{S3ErrorCode, S3Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::access::Gate;
use crate::exchange::{Exchange, Record};
use crate::fault::{Fault, FaultAt, Waiting};
use crate::operations::Operations;
use crate::options::ServiceOptions;
use crate::store::Store;

/// An S3 service that runs in this process until it is stopped or dropped.
pub struct Service {
    endpoint: String,
    exchange: Arc<Exchange>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Starts a service; it takes requests when this returns.
    pub fn start(options: ServiceOptions) -> io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port.unwrap_or(0)));
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let exchange = Arc::new(exchange(options));
        let runtime =
            Builder::new_multi_thread().worker_threads(2).thread_name("nexus-sandbox").enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&exchange);
        let thread = thread::Builder::new()
            .name("nexus-sandbox".to_owned())
            .spawn(move || serve(runtime, listener, served, stopped))?;
        Ok(Self { endpoint, exchange, stop: Some(stop), thread: Some(thread) })
    }

    /// Where the service listens, `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The objects, for loading and inspecting them without requests.
    pub fn store(&self) -> Arc<Store> {
        Arc::clone(&self.exchange.store)
    }

    /// How many requests have come, answered or struck by a fault.
    pub fn requests(&self) -> u64 {
        self.exchange.record().requests
    }

    /// How many requests of each operation have come, by its S3 name.
    pub fn operations(&self) -> BTreeMap<String, u64> {
        self.exchange.record().operations.clone()
    }

    /// The last 10,000 requests in their order, as `PUT /bucket/key?x`.
    pub fn log(&self) -> Vec<String> {
        self.exchange.record().log.iter().cloned().collect()
    }

    /// Sets all counts to zero and empties the log; fault rules stay.
    pub fn reset_counts(&self) {
        let mut record = self.exchange.record();
        record.requests = 0;
        (record.sent, record.received) = (0, 0);
        record.operations.clear();
        record.log.clear();
        record.faults.reset_fired();
    }

    /// Adds a fault; of several that strike one request, the oldest is done.
    pub fn inject(&self, fault: Fault, at: FaultAt) {
        self.exchange.record().faults.add(fault, at);
    }

    /// Has one request wait, before it is carried out, until the answer is dropped: others come in between.
    pub fn stop_at(&self, at: FaultAt) -> Waiting {
        self.exchange.record().faults.stop(at)
    }

    /// Removes all faults; requests that are stalled stay so.
    pub fn clear_faults(&self) {
        self.exchange.record().faults.clear();
    }

    /// Refuses an operation, by its S3 name, from now on: `AccessDenied`.
    ///
    /// One that names a version goes by the name that policies have for it: `GetObjectVersion`, which heads and
    /// sources of copies need too, or `DeleteObjectVersion`.
    pub fn deny(&self, operation: &str) {
        self.exchange.store.access.deny(operation);
    }

    /// Refuses all operations but these, by their S3 names.
    pub fn allow_only(&self, operations: &[&str]) {
        self.exchange.store.access.allow_only(operations);
    }

    /// Allows everything again.
    pub fn allow_all(&self) {
        self.exchange.store.access.allow_all();
    }

    /// Lets everybody read every object, as a bucket policy does, until the public access block is on.
    pub fn make_public(&self) {
        self.exchange.store.access.make_public();
    }

    /// Bytes of content that were sent to the service and by it: bodies of puts and parts, and of gets.
    pub fn content(&self) -> (u64, u64) {
        let record = self.exchange.record();
        (record.sent, record.received)
    }

    /// How many requests have been struck by a fault.
    pub fn faults_fired(&self) -> u64 {
        self.exchange.record().faults.fired()
    }

    /// Stops the service and closes its connections; dropping it does the same.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Either may be gone already, which is what is wanted.
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Service").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// The one pair of credentials that is accepted.
struct OneAccount {
    access_key: String,
    secret_key: SecretKey,
}

#[async_trait::async_trait]
impl S3Auth for OneAccount {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.access_key {
            return Ok(self.secret_key.clone());
        }
        Err(S3ErrorCode::InvalidAccessKeyId.into())
    }
}

fn exchange(options: ServiceOptions) -> Exchange {
    let latency = options.latency;
    let store = Arc::new(Store::new(options.quirks));
    let account =
        OneAccount { access_key: options.access_key.clone(), secret_key: SecretKey::from(options.secret_key.clone()) };
    let mut builder = S3ServiceBuilder::new(Operations { store: Arc::clone(&store), options });
    builder.set_auth(account);
    builder.set_access(Gate(Arc::clone(&store)));
    Exchange { s3: builder.build(), store, record: Mutex::new(Record::default()), latency }
}

fn serve(runtime: Runtime, listener: std::net::TcpListener, exchange: Arc<Exchange>, stopped: oneshot::Receiver<()>) {
    runtime.block_on(async move {
        // The socket was made above and needs only to be known to the runtime.
        if let Ok(listener) = TcpListener::from_std(listener) {
            tokio::select! {
                () = accept(&listener, &exchange) => {}
                _ = stopped => {}
            }
        }
    });
    runtime.shutdown_background();
}

async fn accept(listener: &TcpListener, exchange: &Arc<Exchange>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, Arc::clone(exchange)));
            }
            // Out of file descriptors, most likely: others get their turn before the next try.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

async fn connection(stream: TcpStream, exchange: Arc<Exchange>) {
    // Without it small answers wait for acknowledgements; where it cannot be set they only come later.
    let _ = stream.set_nodelay(true);
    let answers = service_fn(move |request| Arc::clone(&exchange).answer(request));
    // A connection ends with an error when a client goes or a fault closes it: neither is ours to report.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answers).await;
}
