//! An S3 service that lists any number of objects without storing them: to measure what listing and comparing cost.
//!
//! The bucket [`SOURCE`] holds generated objects ([`keys::Keys`]): their keys, sizes, `ETag`s and times are functions of a number.
//! Every other bucket is there as soon as it is named, and stores what is put into it in memory; a copy of a
//! generated object below a prefix is one bit of a map. Nothing is checked: neither credentials nor signatures.
//!
//! A bench steers it over HTTP: `GET /-/counts` answers the requests so far by operation, `POST /-/reset` begins to
//! count anew, `POST /-/change` makes one object in a hundred another, `GET /-/keys?BUCKET` names what is stored, and
//! `POST /-/preset?BUCKET/PREFIX` says that a copy of every object lies below a prefix.

mod answer;
pub mod keys;
mod page;
mod store;
mod time;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use answer::Answers;

/// The bucket of the generated objects.
pub const SOURCE: &str = "source";

/// How many objects there are, and where the service departs from Amazon S3.
#[derive(Debug, Clone)]
pub struct Options {
    /// The port on 127.0.0.1; none takes a free one.
    pub port: Option<u16>,
    /// Generated objects.
    pub objects: u64,
    /// The most entries on one page of a listing.
    pub page: usize,
    /// What it does otherwise than Amazon S3.
    pub oddity: Oddity,
}

/// Ways to list that are found among services.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Oddity {
    /// As Amazon S3 does.
    #[default]
    None,
    /// Only the first version of the listing request is known.
    FirstVersionOnly,
    /// There is more, and no token says how to get it.
    NoToken,
    /// Keys come as they are, whatever spelling was asked for.
    NoSpelling,
    /// Three tokens, one after the other, for ever.
    Circle,
}

impl Default for Options {
    fn default() -> Self {
        Self { port: None, objects: 10_000_000, page: 1_000, oddity: Oddity::None }
    }
}

/// A running service; dropping it stops it.
#[derive(Debug)]
pub struct Synthetic {
    address: SocketAddr,
    answers: Arc<Answers>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Synthetic {
    /// Starts it on threads of its own.
    pub fn start(options: Options) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
        let address = ("127.0.0.1", options.port.unwrap_or(0));
        // Whoever starts it may be in a runtime of its own, where nothing is waited for.
        let listener = std::net::TcpListener::bind(address).expect("the port is free");
        listener.set_nonblocking(true).expect("it was just bound");
        let address = listener.local_addr().expect("it was just bound");
        let answers = Arc::new(Answers::new(options));
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&answers);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("it does not block");
                tokio::select! {
                    () = accept(&listener, &serving) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        Self { address, answers, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it listens.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often each operation was asked for.
    pub fn counts(&self) -> std::collections::BTreeMap<String, u64> {
        self.answers.counts()
    }

    /// The generated objects.
    pub fn keys(&self) -> &keys::Keys {
        self.answers.keys()
    }
}

impl Drop for Synthetic {
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

async fn accept(listener: &TcpListener, answers: &Arc<Answers>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let answers = Arc::clone(answers);
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let answer = service_fn(move |request| {
                let answers = Arc::clone(&answers);
                async move { answers.answer(request).await }
            });
            // A client that goes is nothing to report.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}
