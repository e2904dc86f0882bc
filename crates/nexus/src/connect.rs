//! From settings to buckets: credentials, region and endpoint as the AWS tools find them, but never for minutes.

use std::error::Error as StdError;
use std::time::Duration;

use aws_config::meta::region::{ProvideRegion, RegionProviderChain};
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_types::service_config::ServiceConfigKey;
use nexus_core::bucket::folder::Folder;
use nexus_core::bucket::lean::Signer;
use nexus_core::bucket::pace::Limits;
use nexus_core::bucket::s3::Service;
use nexus_core::bucket::{Address, Bucket, Reader};
use nexus_core::error::{Error, Result};
use tokio::sync::OnceCell;

use crate::settings::{GivenCredentials, Origin, S3Settings};

/// How long all looking for a region and credentials may take together: a metadata service that is not there is
/// otherwise asked again and again.
const PATIENCE: Duration = Duration::from_secs(20);
/// The region of requests to an endpoint that is not AWS, where nothing else names one; such services ignore it.
const ANY_REGION: &str = "us-east-1";

/// The connections of one run, made when they are first needed.
#[derive(Debug)]
pub struct Connections {
    settings: S3Settings,
    seed: u64,
    service: OnceCell<Service>,
}

impl Connections {
    /// Connections by these settings; `seed` spreads the waits between tries.
    pub fn new(settings: S3Settings, seed: u64) -> Self {
        Self { settings, seed, service: OnceCell::new() }
    }

    /// The right to read what lies at an address.
    ///
    /// # Errors
    ///
    /// [`Error::Denied`] when no credentials were found; [`Error::Usage`] when no region was.
    pub async fn reader(&self, address: &Address) -> Result<Reader> {
        match address {
            Address::Folder(path) => Ok(Bucket::Folder(Folder::new(path.clone())).reader()),
            Address::S3 { bucket, .. } => {
                let service = self.service.get_or_try_init(|| self.connect()).await?;
                Ok(Bucket::S3(service.bucket(bucket)).reader())
            }
        }
    }

    /// Gives up the uploads that work which was dropped had begun.
    pub async fn give_up_uploads(&self) {
        if let Some(service) = self.service.get() {
            service.give_up_uploads().await;
        }
    }

    async fn connect(&self) -> Result<Service> {
        let found = tokio::time::timeout(PATIENCE, found(&self.settings)).await;
        let (config, endpoint) = found.unwrap_or_else(|_| Err(no_credentials(None)))?;
        let signer = config.credentials_provider().zip(config.region().cloned()).map(|(credentials, region)| Signer {
            credentials,
            region: region.to_string(),
            clock: std::time::SystemTime::now,
        });
        let mut config = aws_sdk_s3::config::Builder::from(&config);
        if self.settings.aws {
            config.set_endpoint_url(None);
        }
        let account = self.settings.profile.as_ref().map(|profile| profile.value.clone());
        let service = Service::new(config, endpoint, self.limits(), self.seed).of_account(account);
        Ok(match signer {
            Some(signer) => service.with_signer(signer),
            None => service,
        })
    }

    fn limits(&self) -> Limits {
        let usual = Limits::default();
        Limits {
            in_flight: self.settings.in_flight.unwrap_or(usual.in_flight),
            attempts: self.settings.attempts.unwrap_or(usual.attempts),
            patience: self.settings.patience.map_or(usual.patience, crate::span::Span::duration),
            bandwidth: self.settings.bandwidth,
            copy_cutoff: self.settings.copy_cutoff.unwrap_or(usual.copy_cutoff),
            ..usual
        }
    }
}

/// The configuration with credentials that are there, and the endpoint when it is not AWS.
async fn found(settings: &S3Settings) -> Result<(SdkConfig, Option<String>)> {
    let named = settings.endpoint.as_ref().map(|endpoint| endpoint.value.clone());
    if let Some(endpoint) = &named {
        check_endpoint(endpoint)?;
    }
    if let Some(given) = &settings.given {
        return Ok((given_config(given), named));
    }
    let config = load(settings, named.is_some()).await;
    let endpoint = named.or_else(|| configured_endpoint(&config).filter(|_| !settings.aws));
    let mut changed = config.clone().into_builder();
    if config.region().is_none() {
        if endpoint.is_none() {
            return Err(Error::usage_hint(
                "no AWS region is named by flags, configuration, environment or profile",
                "pass --region, for example --region eu-central-1, or set it: `aws configure set region eu-central-1`",
            ));
        }
        changed = changed.region(Region::new(ANY_REGION));
    }
    let provider = config.credentials_provider().ok_or_else(|| no_credentials(None))?;
    let credentials = provider.provide_credentials().await.map_err(|cause| no_credentials(Some(&cause)))?;
    // Those that do not run out need not be looked for again; the others are asked for anew when they have.
    if credentials.expiry().is_none() {
        changed = changed.credentials_provider(SharedCredentialsProvider::new(credentials));
    }
    Ok((changed.build(), endpoint))
}

/// Where requests would go by the profile: what it says of S3 stands over what it says of all services
/// (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>). The client would go there unasked, and another
/// maker's service must not be held for Amazon's.
fn configured_endpoint(config: &SdkConfig) -> Option<String> {
    let of_s3 = ServiceConfigKey::builder().service_id("S3").env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let of_s3 = config.service_config().zip(of_s3.ok()).and_then(|(known, key)| known.load_config(key));
    of_s3.or_else(|| config.endpoint_url().map(str::to_owned))
}

async fn load(settings: &S3Settings, elsewhere: bool) -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone());
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(&profile.value);
        // One that was named outright stands over keys in the environment, as with the AWS command line: they may be another
        // account's.
        if profile.origin != Origin::Variable("AWS_PROFILE") {
            let own = aws_config::profile::ProfileFileRegionProvider::builder().profile_name(&profile.value).build();
            let region = match &settings.region {
                Some(region) => Some(Region::new(region.value.clone())),
                None => own.region().await,
            };
            // A profile that takes on a role asks for it in some region.
            let around = ProviderConfig::default().with_http_client(http.clone()).with_region(region);
            let named = ProfileFileCredentialsProvider::builder().profile_name(&profile.value).configure(&around);
            loader = loader.credentials_provider(named.build());
        }
    }
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.value.clone()));
    } else if elsewhere {
        // Another maker's service has no machine metadata to ask for a region.
        let mut profile = aws_config::profile::ProfileFileRegionProvider::builder();
        if let Some(name) = &settings.profile {
            profile = profile.profile_name(&name.value);
        }
        loader = loader.region(RegionProviderChain::first_try(profile.build()).or_else(ANY_REGION));
    }
    loader.load().await
}

/// A configuration that knows nothing of the environment.
fn given_config(given: &GivenCredentials) -> SdkConfig {
    let credentials = Credentials::new(&given.access_key, &given.secret, None, None, "nexus");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(ANY_REGION))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

fn check_endpoint(endpoint: &str) -> Result<()> {
    let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    if host.is_some_and(|host| !host.is_empty() && !host.contains(char::is_whitespace) && !host.contains('@')) {
        return Ok(());
    }
    Err(Error::usage_hint(
        "the S3 endpoint is not a URL",
        "write it like https://s3.example.com or http://127.0.0.1:9000",
    ))
}

/// The deepest cause says most: a profile that is not there, a login that has run out.
fn no_credentials(cause: Option<&dyn StdError>) -> Error {
    let mut deepest = cause;
    while let Some(inner) = deepest.and_then(StdError::source) {
        deepest = Some(inner);
    }
    let why = deepest.map(|cause| format!(": {cause}")).unwrap_or_default();
    Error::usage_hint(
        format!("no AWS credentials were found{why}"),
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile with --profile, or run `aws configure`",
    )
}
