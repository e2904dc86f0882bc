//! One run of a verb: its settings, terminal, clock, connections and private scratch folder.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use nexus_core::bucket::{Address, Reader};
use nexus_core::clock::Clock;
use nexus_core::error::{Error, Result};
use nexus_core::event::Events;
use nexus_core::local::Scratch;
use nexus_core::point::Copies;
use nexus_core::vault::{RecoveryPoint, StoreRules, Vault};

use crate::aftermath;
use crate::connect::Connections;
use crate::failure::Situation;
use crate::interrupt::Interrupt;
use crate::settings::{Environment, Origin, S3Settings, Setting, Settings};
use crate::terminal::Terminal;

/// What the verbs work with.
pub struct Run {
    /// The settings.
    pub settings: Settings,
    /// The terminal.
    pub terminal: Terminal,
    /// The clock and the source of nonces.
    pub clock: Clock,
    /// Tells the terminal what happens.
    pub events: Events,
    /// The current folder, where relative paths of flags start.
    pub folder: PathBuf,
    /// A private folder that goes away with the run.
    pub scratch: Scratch,
    /// The verb.
    pub verb: &'static str,
    /// The nonce of the guard whose command this is, where it is one.
    pub guarded_by: Option<String>,
    looked_back: AtomicBool,
    connections: Connections,
    /// Those to the files' own service, when they have one.
    files_connections: Option<Connections>,
    /// Those to a third one, once it is named.
    other_connections: OnceLock<Connections>,
}

/// Says to a guard's command which point holds the state before it.
pub const POINT_VARIABLE: &str = "NEXUS_POINT";
/// Tells a guard's command from all other processes: two points of two vaults may bear one id.
pub const GUARD_VARIABLE: &str = "NEXUS_GUARD";

impl Run {
    /// Prepares a run; connects to nothing yet.
    pub fn prepare(
        verb: &'static str,
        settings: Settings,
        environment: &Environment,
        terminal: &Terminal,
    ) -> Result<Self> {
        let scratch = Scratch::create(&environment.temporary())?;
        let connections = Connections::new(settings.s3.clone(), seed()?);
        let files_connections =
            settings.files_s3.clone().map(|s3| Ok::<_, Error>(Connections::new(s3, seed()?))).transpose()?;
        let (events, terminal) = (terminal.events(), terminal.clone());
        let folder = environment.folder.clone();
        let guarded_by = environment.variable(GUARD_VARIABLE).map(str::to_owned);
        Ok(Self {
            settings,
            terminal,
            clock: clock(),
            events,
            folder,
            scratch,
            verb,
            guarded_by,
            looked_back: AtomicBool::new(false),
            connections,
            files_connections,
            other_connections: OnceLock::new(),
        })
    }

    /// The right to read what lies at an address.
    pub async fn reader(&self, address: &Address) -> Result<Reader> {
        self.connections.reader(address).await
    }

    /// The right to read files at an address, on their own service when they have one.
    pub async fn files_reader(&self, address: &Address) -> Result<Reader> {
        self.files_connections.as_ref().unwrap_or(&self.connections).reader(address).await
    }

    /// The right to read what lies at an address of a third service, of which a run has one at most.
    pub async fn other_reader(&self, settings: S3Settings, address: &Address) -> Result<Reader> {
        let seed = seed()?;
        self.other_connections.get_or_init(|| Connections::new(settings, seed)).reader(address).await
    }

    /// The service that files are on.
    pub fn files_service(&self) -> &S3Settings {
        self.settings.files_s3.as_ref().unwrap_or(&self.settings.s3)
    }

    /// The same on the endpoint that a point names, unless the settings name one.
    pub async fn reader_on(&self, address: &Address, endpoint: Option<&str>) -> Result<Reader> {
        match endpoint {
            _ if self.files_connections.is_some() => self.files_reader(address).await,
            Some(endpoint) if self.settings.s3.endpoint.is_none() && !self.settings.s3.aws => {
                let origin = Origin::Flag("the point");
                let named = Setting { value: endpoint.to_owned(), origin };
                let settings = S3Settings { endpoint: Some(named), ..self.settings.s3.clone() };
                Connections::new(settings, seed()?).reader(address).await
            }
            _ => self.reader(address).await,
        }
    }

    /// The point, knowing how the source of its files is reached, where it consists of versions there.
    ///
    /// # Errors
    ///
    /// As [`Run::reader_on`].
    pub async fn with_source(&self, point: RecoveryPoint) -> Result<RecoveryPoint> {
        let part = point.manifest().parts.files.as_ref().filter(|part| part.copies == Copies::Versions);
        let Some((source, endpoint)) = part.map(|part| (part.source.clone(), part.endpoint.clone())) else {
            return Ok(point);
        };
        let address = Address::parse(&source, &self.folder)?;
        if !matches!(address, Address::S3 { .. }) {
            return Ok(point);
        }
        let reader = self.reader_on(&address, endpoint.as_deref()).await?;
        // A service that is not the point's would be asked for versions that it never had.
        Ok(if reader.endpoint() == endpoint.as_deref() { point.with_source(reader) } else { point })
    }

    /// Works until it is done or a signal comes; nothing half-sent is left in a bucket either way.
    pub async fn work<T>(&self, work: impl Future<Output = Result<T>>, interrupt: &Interrupt) -> Result<T> {
        let done = until(work, interrupt).await;
        if done.is_err() {
            self.give_up_uploads().await;
        }
        done
    }

    /// Gives up what work that was dropped had half sent; a bucket that does not answer takes its time.
    pub async fn give_up_uploads(&self) {
        let of = async |connections: Option<&Connections>| {
            if let Some(connections) = connections {
                connections.give_up_uploads().await;
            }
        };
        let (files, other) = (of(self.files_connections.as_ref()), of(self.other_connections.get()));
        futures::join!(self.connections.give_up_uploads(), files, other);
    }

    /// The same; after a signal what the work has told to be unfinished is cleared away as well, and waits for no bucket.
    pub async fn work_and_clear<T, U: Default>(
        &self,
        work: impl AsyncFnOnce(&mut U) -> Result<T>,
        clear: impl AsyncFnOnce(U),
        interrupt: &Interrupt,
    ) -> Result<T> {
        let mut unfinished = U::default();
        let done = until(work(&mut unfinished), interrupt).await;
        let cleared = async {
            if interrupt.has_come() {
                clear(unfinished).await;
            }
        };
        let given_up = async {
            if done.is_err() {
                self.give_up_uploads().await;
            }
        };
        futures::join!(cleared, given_up);
        done
    }

    /// Opens the vault, which must be there; where an app is named, it must be that app's. What an earlier run left open
    /// in it is told.
    pub async fn vault(&self) -> Result<Vault> {
        let address = self.settings.vault()?;
        let reader = self.reader(address).await?;
        let scratch = self.scratch.path().to_path_buf();
        let vault = Vault::open(&reader, address, self.app_of_vault(), self.store_rules(), scratch).await?;
        self.look_back(&vault).await;
        Ok(vault)
    }

    /// Tells, once a run, what an earlier one began in this vault and never ended.
    pub async fn look_back(&self, vault: &Vault) {
        if !self.looked_back.swap(true, Ordering::Relaxed) {
            aftermath::tell(self, vault).await;
        }
    }

    /// The app that the vault must be of. A vault named outright is not held against a file that happens to lie here.
    fn app_of_vault(&self) -> Option<&str> {
        let app = self.settings.app.as_ref()?;
        let from_file = |origin: &Origin| matches!(origin, Origin::File(_));
        let vault = self.settings.vault.as_ref().is_some_and(|vault| from_file(&vault.origin));
        (vault || !from_file(&app.origin)).then_some(app.value.as_str())
    }

    /// How what is written is stored.
    pub fn store_rules(&self) -> StoreRules {
        let class = &self.settings.database_class;
        StoreRules {
            encryption: self.settings.encryption.header(),
            database_class: (class != "STANDARD").then(|| class.clone()),
            copies_encryption: self.settings.rules.encryption.and_then(crate::config::Encryption::header),
        }
    }

    /// The flags with which another `nexus` reaches the same vault from here.
    pub fn reach(&self) -> Vec<String> {
        reach(&self.settings)
    }
}

/// Works until it is done or a signal comes; what was half sent then is for the caller to give up.
pub async fn until<T>(work: impl Future<Output = Result<T>>, interrupt: &Interrupt) -> Result<T> {
    let mut interrupt = interrupt.clone();
    let work = std::pin::pin!(work);
    tokio::select! {
        biased;
        done = work => done,
        () = interrupt.came() => Err(Error::usage("interrupted")),
    }
}

/// The flags with which another `nexus` reaches the same vault from here; what the environment says, it says again.
fn reach(settings: &Settings) -> Vec<String> {
    let Some(vault) = &settings.vault else { return Vec::new() };
    let mut words = vec!["--vault".to_owned(), vault.value.to_string()];
    words.extend(reach_files(settings));
    if !matches!(vault.value, Address::S3 { .. }) {
        return words;
    }
    if let Some(endpoint) = settings.s3.named_endpoint() {
        words.extend(["--endpoint".to_owned(), endpoint]);
    }
    let lasting = |setting: &&Setting<String>| !matches!(setting.origin, Origin::Variable(_));
    if let Some(region) = settings.s3.region.as_ref().filter(lasting) {
        words.extend(["--region".to_owned(), region.value.clone()]);
    }
    if let Some(profile) = settings.s3.profile.as_ref().filter(lasting) {
        words.extend(["--profile".to_owned(), profile.value.clone()]);
    }
    words
}

/// The flags with which another `nexus` reaches the files' own service, when they have one.
fn reach_files(settings: &Settings) -> Vec<String> {
    let Some(files) = &settings.files_s3 else { return Vec::new() };
    let lasting = |setting: &&Setting<String>| !matches!(setting.origin, Origin::Variable(_));
    let region = files.region.as_ref().filter(lasting).map(|region| region.value.clone());
    let profile = files.profile.as_ref().filter(lasting).map(|profile| profile.value.clone());
    let flags =
        [("--files-endpoint", files.named_endpoint()), ("--files-region", region), ("--files-profile", profile)];
    let named = flags.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value?]));
    named.flatten().collect()
}

/// What a failure of this run may point to.
pub fn situation(verb: &'static str, settings: &Settings) -> Situation {
    let bucket = match settings.vault.as_ref().map(|vault| &vault.value) {
        Some(Address::S3 { bucket, prefix }) => Some(format!("s3://{bucket}/{prefix}")),
        _ => None,
    };
    Situation {
        verb,
        reach: reach(settings),
        bucket,
        endpoint: settings.s3.endpoint.as_ref().map(|endpoint| endpoint.value.clone()),
        profile: settings.s3.profile.as_ref().map(|profile| profile.value.clone()),
        contacts: settings.contacts.clone(),
    }
}

/// The machine's clock, and nonces from its source of randomness.
fn clock() -> Clock {
    Clock::new(Timestamp::now, || {
        let mut bytes = [0; 8];
        // Without randomness the time must do: a nonce need only differ from the other runs' ones.
        if getrandom::fill(&mut bytes).is_err() {
            bytes = Timestamp::now().as_nanosecond().to_le_bytes()[..8].try_into().unwrap_or_default();
        }
        format!("{:016x}", u64::from_le_bytes(bytes))
    })
}

fn seed() -> Result<u64> {
    let mut bytes = [0; 8];
    let failed =
        |cause: getrandom::Error| Error::local("cannot get random numbers", std::io::Error::other(cause.to_string()));
    getrandom::fill(&mut bytes).map_err(failed)?;
    Ok(u64::from_le_bytes(bytes))
}
