//! A service with one bucket, a client of it, and how a test reads an error.

use std::fmt::Debug;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Config, Credentials, Region, RequestChecksumCalculation, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use nexus_sandbox::{Quirks, Service, ServiceOptions};

/// The bucket that every test works in.
pub const BUCKET: &str = "clinic";

/// A running service and a client that never tries twice.
pub struct Rig {
    pub service: Service,
    pub client: Client,
}

/// A strict service.
pub fn strict() -> Rig {
    with(ServiceOptions::default())
}

/// A service with quirks.
pub fn quirky(quirks: Quirks) -> Rig {
    with(ServiceOptions { quirks, ..ServiceOptions::default() })
}

/// A service with these options.
pub fn with(options: ServiceOptions) -> Rig {
    let credentials = (options.access_key.clone(), options.secret_key.clone());
    let service = Service::start(options).expect("a free port");
    service.store().create_bucket(BUCKET);
    let client = client(service.endpoint(), &credentials.0, &credentials.1);
    Rig { service, client }
}

impl Rig {
    /// A client that sends a checksum only where it must.
    pub fn without_checksums(&self) -> Client {
        let config = self.client.config().to_builder();
        Client::from_conf(config.request_checksum_calculation(RequestChecksumCalculation::WhenRequired).build())
    }
}

/// A client with these credentials.
pub fn client(endpoint: &str, access_key: &str, secret_key: &str) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .force_path_style(true)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(access_key, secret_key, None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .build();
    Client::from_conf(config)
}

/// The code of the error that a service answered with; its status where there was no code.
pub fn refusal<T: Debug, E: ProvideErrorMetadata + Debug>(outcome: Result<T, SdkError<E>>) -> String {
    let error = outcome.expect_err("a refusal");
    match (error.code(), error.raw_response()) {
        (Some(code), _) => code.to_owned(),
        (None, Some(answer)) => answer.status().as_u16().to_string(),
        (None, None) => format!("{error:?}"),
    }
}
