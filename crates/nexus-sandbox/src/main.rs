//! `nexus-sandbox serve`: the service in a process of its own, for benchmarks and for trying things out.

use std::error::Error;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use nexus_sandbox::clinic::{ClinicSize, make};
use nexus_sandbox::{Personality, Service, ServiceOptions};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "usage: nexus-sandbox serve [--port N] [--clinic FOLDER] [--like SERVICE] [--latency MS]

Serves S3 on 127.0.0.1 until its standard input closes or SIGTERM or SIGINT comes.
The first line on standard output is `ENDPOINT ACCESS_KEY SECRET_KEY`.
With --clinic, makes the bucket `clinic` and FOLDER/db.sqlite3.
With --like, differs from Amazon S3 as far as SERVICE is known to: r2, b2, minio, seaweedfs, garage, ceph, wasabi, gcs.
With --latency, each answer comes so many milliseconds late, as from a service far away.";

/// What the command line asks for.
#[derive(Debug, Default)]
struct Request {
    port: Option<u16>,
    clinic: Option<PathBuf>,
    like: Option<Personality>,
    latency: Duration,
}

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect();
    match understood(arguments).and_then(|request| serve(&request)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nowhere left to say that standard error is closed.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}

fn understood(arguments: Vec<String>) -> Result<Request, Box<dyn Error>> {
    let mut arguments = arguments.into_iter();
    if arguments.next().as_deref() != Some("serve") {
        return Err(USAGE.into());
    }
    let mut request = Request::default();
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or(USAGE)?;
        match flag.as_str() {
            "--port" => request.port = Some(value.parse()?),
            "--clinic" => request.clinic = Some(value.into()),
            "--latency" => request.latency = Duration::from_millis(value.parse()?),
            "--like" => request.like = Some(Personality::named(&value).ok_or(USAGE)?),
            _ => return Err(USAGE.into()),
        }
    }
    Ok(request)
}

fn serve(request: &Request) -> Result<(), Box<dyn Error>> {
    let quirks = request.like.map(Personality::quirks).unwrap_or_default();
    let latency = request.latency;
    let options = ServiceOptions { port: request.port, latency, quirks, ..ServiceOptions::default() };
    let (access_key, secret_key) = (options.access_key.clone(), options.secret_key.clone());
    let service = Service::start(options)?;
    if let Some(folder) = &request.clinic {
        fill(&service, folder)?;
    }
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{} {access_key} {secret_key}", service.endpoint())?;
    stdout.flush()?;
    until_told_to_stop()?;
    service.stop();
    Ok(())
}

fn fill(service: &Service, folder: &Path) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    service.store().create_bucket("clinic");
    let database = folder.join("db.sqlite3");
    make(&ClinicSize::default(), &database, &service.store(), "clinic")?;
    Ok(())
}

fn until_told_to_stop() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = tokio::task::spawn_blocking(input_closed) => {}
        }
        Ok::<(), io::Error>(())
    })?;
    // The reader of standard input may wait for ever.
    runtime.shutdown_background();
    Ok(())
}

fn input_closed() {
    let mut buffer = [0; 1_024];
    while io::stdin().read(&mut buffer).is_ok_and(|count| count > 0) {}
}
