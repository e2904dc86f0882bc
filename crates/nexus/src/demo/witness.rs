//! What the app is, seen by plain SQL and plain GETs: it must share nothing with what backs up and restores.

use std::collections::BTreeMap;

use aws_sdk_s3::Client;
use futures::stream::{self, StreamExt, TryStreamExt};
use nexus_core::error::{Cause, Error, Result};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::world::{FILES, World, failed};
use crate::wording::counted;

/// Objects read at once.
const AT_ONCE: usize = 32;
/// Differences that are named.
const NAMED: usize = 5;

type Hash = [u8; 32];

/// A digest of every row, every definition and every object.
pub struct Witness {
    rows: BTreeMap<(String, u64), Hash>,
    objects: BTreeMap<String, Hash>,
}

/// How two sightings compare.
#[derive(Debug, Clone, Serialize)]
pub struct Compared {
    /// In both, and equal.
    pub equal: u64,
    /// In either.
    pub total: u64,
    /// The first that are not equal, or not in both.
    pub different: Vec<String>,
}

impl Compared {
    /// True when nothing differs.
    pub fn is_equal(&self) -> bool {
        self.equal == self.total
    }
}

impl Witness {
    /// What was seen, in words.
    pub fn detail(&self) -> String {
        format!("{}, {}", counted(self.rows.len() as u64, "row"), counted(self.objects.len() as u64, "object"))
    }

    /// Compares the rows.
    pub fn rows(&self, after: &Self) -> Compared {
        compared(&self.rows, &after.rows, |(table, number)| format!("{table}, row {number}"))
    }

    /// Compares the objects.
    pub fn objects(&self, after: &Self) -> Compared {
        compared(&self.objects, &after.objects, Clone::clone)
    }
}

fn compared<K: Ord>(before: &BTreeMap<K, Hash>, after: &BTreeMap<K, Hash>, name: impl Fn(&K) -> String) -> Compared {
    let gone_or_changed = before.iter().filter(|(key, hash)| after.get(key) != Some(hash)).map(|(key, _)| key);
    let added = after.keys().filter(|key| !before.contains_key(key));
    let wrong: Vec<&K> = gone_or_changed.chain(added).collect();
    let total = before.len() + after.keys().filter(|key| !before.contains_key(key)).count();
    Compared {
        equal: (total - wrong.len()) as u64,
        total: total as u64,
        different: wrong.into_iter().take(NAMED).map(name).collect(),
    }
}

/// Looks at everything.
pub async fn look(world: &World) -> Result<Witness> {
    let objects = objects(&world.client()).await?;
    let rows = rows(world).map_err(failed("cannot read the clinic's rows"))?;
    Ok(Witness { rows, objects })
}

/// Every row of every table in the order of its rowid or key, and every definition as a row of `sqlite_schema`.
fn rows(world: &World) -> rusqlite::Result<BTreeMap<(String, u64), Hash>> {
    let connection = Connection::open_with_flags(world.database(), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut names = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")?;
    let tables: Vec<String> = names.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut rows = BTreeMap::new();
    read(
        &connection,
        "definitions",
        "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name",
        &mut rows,
    )?;
    for table in tables {
        let quoted = table.replace('"', "\"\"");
        read(&connection, &table, &format!("SELECT * FROM \"{quoted}\" ORDER BY 1"), &mut rows)?;
    }
    Ok(rows)
}

fn read(
    connection: &Connection,
    name: &str,
    query: &str,
    into: &mut BTreeMap<(String, u64), Hash>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(query)?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    let mut number = 0;
    while let Some(row) = rows.next()? {
        let mut hash = Sha256::new();
        for column in 0..columns {
            add(&mut hash, row.get_ref(column)?);
        }
        into.insert((name.to_owned(), number), hash.finalize().into());
        number += 1;
    }
    Ok(())
}

/// Adds a value with its type and length, so that no two rows read alike.
fn add(hash: &mut Sha256, value: ValueRef<'_>) {
    let (kind, bytes): (u8, Vec<u8>) = match value {
        ValueRef::Null => (0, Vec::new()),
        ValueRef::Integer(number) => (1, number.to_le_bytes().to_vec()),
        ValueRef::Real(number) => (2, number.to_bits().to_le_bytes().to_vec()),
        ValueRef::Text(text) => (3, text.to_vec()),
        ValueRef::Blob(blob) => (4, blob.to_vec()),
    };
    hash.update([kind]);
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// Every object of the app's bucket, read whole, with its content type and user metadata.
async fn objects(client: &Client) -> Result<BTreeMap<String, Hash>> {
    let mut pages = client.list_objects_v2().bucket(FILES).into_paginator().send();
    let mut keys = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|cause| unread("the bucket", cause))?;
        keys.extend(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)));
    }
    stream::iter(keys).map(async |key| object(client, key).await).buffer_unordered(AT_ONCE).try_collect().await
}

async fn object(client: &Client, key: String) -> Result<(String, Hash)> {
    let got = client.get_object().bucket(FILES).key(&key).send().await.map_err(|cause| unread(&key, cause))?;
    let mut hash = Sha256::new();
    let metadata: BTreeMap<_, _> = got.metadata().into_iter().flatten().collect();
    for text in [got.content_type().unwrap_or_default(), &format!("{metadata:?}")] {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    let body = got.body.collect().await.map_err(|cause| unread(&key, cause))?;
    hash.update(body.into_bytes());
    Ok((key, hash.finalize().into()))
}

fn unread(what: &str, cause: impl Into<Cause>) -> Error {
    Error::Service { what: format!("the demo's witness cannot read {what}"), cause: Some(cause.into()) }
}
