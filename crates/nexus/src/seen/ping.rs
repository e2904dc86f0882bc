//! Pings in the style of healthchecks.io: `/start` at the beginning, the URL itself when it went well, `/fail` when not.
//!
//! Whoever knows the URL can send to it, so it is never shown. Nothing is sent but the request.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Uri;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use nexus_core::error::{Error, Result};
use tokio::task::JoinHandle;

use crate::run::Run;

/// How often one is tried.
const TRIES: u32 = 3;
/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(300);
/// How long all of it may take after an interrupt.
const HASTY: Duration = Duration::from_millis(700);

/// A run that is told of.
pub struct Ping {
    url: Uri,
    /// The word that it began, which is sent while it works.
    begun: JoinHandle<std::result::Result<(), String>>,
}

impl Ping {
    /// Says that the run began, where somebody is to be told.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when what is configured is no URL.
    pub fn begin(run: &Run) -> Result<Option<Self>> {
        let table = &run.settings.ping;
        let url = match run.verb {
            "backup" => &table.backup,
            "guard" => &table.guard,
            "verify" => &table.verify,
            "drill" => &table.drill,
            "prune" => &table.prune,
            _ => return Ok(None),
        };
        let Some(url) = url else { return Ok(None) };
        let wrong = || {
            Error::usage_hint(
                format!("the ping for {} is not a URL", run.verb),
                format!("write https://… under [ping], or into NEXUS_PING_{}", run.verb.to_uppercase()),
            )
        };
        let url: Uri = url.parse().map_err(|_| wrong())?;
        if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none() {
            return Err(wrong());
        }
        let start = with(&url, "/start").ok_or_else(wrong)?;
        Ok(Some(Self { url, begun: tokio::spawn(send(start)) }))
    }

    /// Says how it ended. That it cannot is only told.
    pub async fn end(self, run: &Run, status: u8, hasty: bool) {
        let url = if status == 0 { Some(self.url.clone()) } else { with(&self.url, "/fail") };
        let Some(url) = url else { return };
        let told = async {
            // In their order: an end before its beginning would look like a run that goes on.
            let begun = self.begun.await.unwrap_or_else(|_| Err("was dropped".to_owned()));
            let ended = send(url).await;
            begun.and(ended)
        };
        let told = if hasty {
            tokio::time::timeout(HASTY, told).await.unwrap_or_else(|_| Err("had no answer in time".to_owned()))
        } else {
            told.await
        };
        if let Err(how) = told {
            run.terminal.warn(&format!("the ping for {} {how}: whoever watches it may be alarmed", run.verb));
        }
    }
}

/// The URL with more at the end of its path; what follows `?` stays.
fn with(url: &Uri, more: &str) -> Option<Uri> {
    let mut parts = url.clone().into_parts();
    let path = url.path().trim_end_matches('/');
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    parts.path_and_query = format!("{path}{more}{query}").parse().ok();
    parts.path_and_query.as_ref()?;
    Uri::from_parts(parts).ok()
}

/// Sends one, a few times when it fails. What is said of a failure never holds the URL.
async fn send(url: Uri) -> std::result::Result<(), String> {
    let mut last = "was not sent".to_owned();
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        match tokio::time::timeout(PATIENCE, once(url.clone())).await {
            Ok(Ok(status)) if status.is_success() => return Ok(()),
            Ok(Ok(status)) => last = format!("was answered with HTTP {}", status.as_u16()),
            Ok(Err(how)) => last = how,
            Err(_) => last = format!("had no answer within {} s", PATIENCE.as_secs()),
        }
    }
    Err(last)
}

async fn once(url: Uri) -> std::result::Result<hyper::StatusCode, String> {
    let tls = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
        .map_err(|cause| format!("could not be sent: {cause}"))?;
    let client =
        Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(tls.https_or_http().enable_http1().build());
    let answer = client.get(url).await.map_err(|cause| {
        let how = if cause.is_connect() { "could not be sent: nobody answers" } else { "could not be sent" };
        how.to_owned()
    })?;
    Ok(answer.status())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_comes_before_the_question_mark() {
        let url: Uri = "https://hc.example/ping/a-b?create=1".parse().expect("a URL");
        assert_eq!(with(&url, "/start").expect("a URL").to_string(), "https://hc.example/ping/a-b/start?create=1");
        let url: Uri = "http://hc.example".parse().expect("a URL");
        assert_eq!(with(&url, "/fail").expect("a URL").to_string(), "http://hc.example/fail");
    }
}
