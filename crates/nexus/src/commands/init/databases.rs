//! Databases of a site in words and as URLs, neither of which holds a password.

use super::django::SiteDatabase;
use crate::wording::without_passwords;

/// Where a database is, for a person; of one that is no file and not PostgreSQL's the kind alone, since its name may hold anything.
pub(super) fn place(database: &SiteDatabase) -> String {
    let engine = database.engine.rsplit('.').next().unwrap_or(&database.engine);
    let name = database.name.as_deref().unwrap_or("without a name");
    let name = name.split('?').next().unwrap_or(name);
    let told = match database.host.as_deref() {
        _ if is_sqlite(database) => name.starts_with('/').then(|| name.to_owned()),
        _ if !is_postgres(database) || is_connection(name) => None,
        Some(host) if host_of(host).is_ok() => Some(format!("{name} on {host}")),
        _ => Some(name.to_owned()),
    };
    told.map_or_else(|| engine.to_owned(), |told| format!("{engine}, {}", without_passwords(&told)))
}

fn is_sqlite(database: &SiteDatabase) -> bool {
    database.engine.contains("sqlite") || database.engine.contains("spatialite")
}

fn is_postgres(database: &SiteDatabase) -> bool {
    database.engine.contains("postgres") || database.engine.contains("postgis")
}

/// True for what libpq would take as more than the name of a database.
fn is_connection(name: &str) -> bool {
    name.contains("://") || name.contains('=')
}

/// A host as a URL has it, or a folder as it is.
fn host_of(host: &str) -> Result<String, String> {
    let is_plain = |host: &str| host.chars().all(|letter| letter.is_alphanumeric() || "-_.".contains(letter));
    if host.starts_with('/') || is_plain(host) {
        return Ok(host.to_owned());
    }
    if host.contains(',') {
        return Err("its HOST names several: write its URL".to_owned());
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare.contains(':') && bare.chars().all(|letter| letter.is_ascii_hexdigit() || ":.".contains(letter)) {
        return Ok(format!("[{bare}]"));
    }
    Err("its HOST is no name and no address: write its URL".to_owned())
}

/// The URL or path of a database, without its password; the error is why there is none.
pub(super) fn url(database: &SiteDatabase) -> Result<String, String> {
    let SiteDatabase { engine, name, host, port, user, service, sslmode, options: _ } = database;
    if is_sqlite(database) {
        return match name.as_deref() {
            Some(path) if path.starts_with('/') => Ok(path.to_owned()),
            _ => Err("it is in memory, or a URI of SQLite's own".to_owned()),
        };
    }
    if !is_postgres(database) {
        return Err(format!("it is of another kind than SQLite or PostgreSQL: {engine}"));
    }
    if let Some(service) = service {
        return Err(format!("it is told by libpq's service {service:?}: write its URL"));
    }
    let name = name.as_deref().ok_or("it has no name")?;
    if is_connection(name) {
        return Err("its NAME is more than a name: write its URL".to_owned());
    }
    let user = user.as_ref().map(|user| format!("{}@", encoded(user))).unwrap_or_default();
    let port = port.as_ref().map(|port| format!(":{port}")).unwrap_or_default();
    let (host, mut words) = match host.as_deref().map(host_of).transpose()? {
        Some(folder) if folder.starts_with('/') => {
            let port = port.strip_prefix(':').map(|port| format!("port={port}"));
            (String::new(), [Some(format!("host={}", encoded(&folder))), port].into_iter().flatten().collect())
        }
        Some(host) => (format!("{host}{port}"), Vec::new()),
        // Without a host libpq takes the socket; the port is its file's name.
        None => (String::new(), port.strip_prefix(':').map(|port| format!("port={port}")).into_iter().collect()),
    };
    words.extend(sslmode.iter().map(|mode| format!("sslmode={mode}")));
    let query = if words.is_empty() { String::new() } else { format!("?{}", words.join("&")) };
    Ok(format!("postgres://{user}{host}/{}{query}", encoded(name)))
}

/// A part of a URL, percent-encoded but for what can be meant as nothing else.
fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut url = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_become_urls_without_passwords() {
        let postgres = SiteDatabase {
            engine: "django.db.backends.postgresql".into(),
            name: Some("a b?".into()),
            host: Some("db.example".into()),
            port: Some("5433".into()),
            user: Some("cli@nic".into()),
            service: None,
            sslmode: Some("require".into()),
            options: Vec::new(),
        };
        assert_eq!(url(&postgres).as_deref(), Ok("postgres://cli%40nic@db.example:5433/a%20b%3F?sslmode=require"));
        let socket = SiteDatabase { host: Some("/run/pg".into()), sslmode: None, ..postgres.clone() };
        assert_eq!(url(&socket).as_deref(), Ok("postgres://cli%40nic@/a%20b%3F?host=%2Frun%2Fpg&port=5433"));
        let mysql = SiteDatabase { engine: "django.db.backends.mysql".into(), ..postgres.clone() };
        assert!(url(&mysql).is_err());
        let memory = SiteDatabase {
            engine: "django.db.backends.sqlite3".into(),
            name: Some(":memory:".into()),
            ..postgres.clone()
        };
        assert!(url(&memory).is_err());
        let on =
            |host: &str| url(&SiteDatabase { host: Some(host.into()), user: None, sslmode: None, ..postgres.clone() });
        for host in ["::1", "[::1]"] {
            assert_eq!(on(host).as_deref(), Ok("postgres://[::1]:5433/a%20b%3F"));
        }
        for host in ["a.example,b.example", "app:geheim@db", "postgres://app:geheim@db"] {
            assert!(on(host).is_err_and(|why| !why.contains("geheim")), "{host}");
        }
        let named = SiteDatabase { name: Some("host=db password=geheim".into()), ..postgres };
        assert!(url(&named).is_err_and(|why| !why.contains("geheim")));
    }

    #[test]
    fn a_place_tells_no_password_whatever_it_is_written_in() {
        let database = |engine: &str, name: &str, host: Option<&str>| SiteDatabase {
            engine: format!("django.db.backends.{engine}"),
            name: Some(name.into()),
            host: host.map(str::to_owned),
            port: None,
            user: None,
            service: None,
            sslmode: None,
            options: Vec::new(),
        };
        for (engine, name, host, expected) in [
            ("postgresql", "old", Some("db.example"), "postgresql, old on db.example"),
            ("postgresql", "old", Some("app:geheim@db"), "postgresql, old"),
            ("postgresql", "postgres://app:geheim@db/old", None, "postgresql"),
            ("sqlite3", "/srv/a.db?key=geheim", None, "sqlite3, /srv/a.db"),
            ("sqlite3", "file:a.db?key=geheim", None, "sqlite3"),
            ("djongo", "clinic", Some("mongodb+srv://app:geheim@db"), "djongo"),
        ] {
            assert_eq!(place(&database(engine, name, host)), expected);
        }
    }
}
