//! Where the demo plays: a temporary folder, a service, a clinic, and an environment that is not the user's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use nexus_core::error::{Cause, Error, Result};
use nexus_sandbox::clinic::{self, Clinic, ClinicSize};
use nexus_sandbox::{Service, ServiceOptions, Store};
use tempfile::TempDir;

use crate::cli::DemoArgs;
use crate::settings::{CONFIG_NAME, Environment, GivenCredentials};
use crate::wording::{command_line, count, size};

/// The bucket with the clinic's files.
pub const FILES: &str = "clinic-documents";
/// The bucket with the vault.
const BACKUP: &str = "clinic-backup";

/// The demo's world; it goes when this is dropped.
pub struct World {
    service: Service,
    options: ServiceOptions,
    clinic: Clinic,
    folder: TempDir,
}

impl World {
    /// Makes it inside the folder for temporary files.
    pub fn make(args: &DemoArgs, temporary: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("nexus-demo-")
            .tempdir_in(temporary)
            .map_err(|cause| Error::local(format!("cannot make a folder in `{}`", temporary.display()), cause))?;
        let options = ServiceOptions::default();
        let service =
            Service::start(options.clone()).map_err(|cause| Error::local("cannot start the S3 service", cause))?;
        let store = service.store();
        store.create_bucket(FILES);
        store.create_bucket(BACKUP);
        let size = if args.small { ClinicSize::small() } else { ClinicSize::default() };
        let clinic = clinic::make(&size, &folder.path().join("db.sqlite3"), &store, FILES)
            .map_err(failed("cannot make the clinic"))?;
        let world = Self { service, options, clinic, folder };
        let config = world.folder.path().join(CONFIG_NAME);
        std::fs::write(&config, world.config())
            .map_err(|cause| Error::local("cannot write the demo's nexus.toml", cause))?;
        Ok(world)
    }

    fn config(&self) -> String {
        let endpoint = self.service.endpoint();
        format!(
            r#"app = "clinic"

[database]
url = "db.sqlite3"

[files]
source = "s3://{FILES}"
[files.categories]
images = ["filemaker-import/images-bulk-dump/**", "*.jpg", "*.jpeg", "*.png", "*.tif"]
documents = ["documents/**", "*.pdf", "*.docx"]

[records]
folder = "backups"
[records.tables]
patients = "clinic_patient"
documents = "clinic_document"
images = "clinic_image"
image_batches = "clinic_imagebatch"

[vault]
url = "s3://{BACKUP}/clinic"

[retention]
database = "30d"
files = "7d"
records = "90d"

[s3]
endpoint = "{endpoint}"
"#
        )
    }

    /// What there is, in words.
    pub fn detail(&self) -> String {
        let clinic = &self.clinic;
        format!(
            "a database of {}, {} objects of {}",
            size(clinic.database_bytes),
            count(clinic.objects),
            size(clinic.object_bytes)
        )
    }

    /// The environment in which the verbs run.
    pub fn environment(&self) -> Environment {
        Environment {
            variables: BTreeMap::from([("TMPDIR".to_owned(), self.folder.path().display().to_string())]),
            folder: self.folder.path().to_path_buf(),
            given: Some(GivenCredentials {
                access_key: self.options.access_key.clone(),
                secret: self.options.secret_key.clone(),
            }),
        }
    }

    /// The database.
    pub fn database(&self) -> &Path {
        &self.clinic.database
    }

    /// The service's objects, to change them as somebody else would.
    pub fn store(&self) -> Arc<Store> {
        self.service.store()
    }

    /// A plain S3 client that has nothing in common with the one that restores.
    pub fn client(&self) -> Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(self.service.endpoint())
            .force_path_style(true)
            .credentials_provider(Credentials::new(
                &self.options.access_key,
                &self.options.secret_key,
                None,
                None,
                "demo",
            ))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        Client::from_conf(config)
    }

    /// Commands for another terminal.
    pub fn to_try(&self) -> Vec<String> {
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("nexus")).display().to_string();
        let folder = self.folder.path().display().to_string();
        let vault = format!("s3://{BACKUP}/clinic/");
        vec![
            command_line(["cd", &folder]),
            format!(
                "export AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={}",
                self.options.access_key, self.options.secret_key
            ),
            format!("export AWS_REGION=us-east-1 AWS_ENDPOINT_URL_S3={}", self.service.endpoint()),
            command_line([&program, "list"]),
            command_line([&program, "verify", "--full"]),
            command_line([&program, "restore", "latest", "--dry-run"]),
            command_line(["aws", "s3", "ls", &vault]),
            command_line(["sqlite3", "db.sqlite3", "select count(*) from clinic_patient"]),
        ]
    }
}

/// An error of the demo's own doing.
pub fn failed<E: Into<Cause>>(what: &'static str) -> impl FnOnce(E) -> Error {
    move |cause| Error::Local { what: what.to_owned(), cause: Some(cause.into()) }
}
