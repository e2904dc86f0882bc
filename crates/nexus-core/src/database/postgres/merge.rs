//! Records beside the rows of a table: which are missing, and which have other values there.

use super::catalogue::{self, literal};
use super::load::{PostgresLoad, Table};
use crate::database::load::{Conflict, EXAMPLES, LoadedTable};
use crate::database::source::RecordFile;
use crate::error::{Error, Result};
use crate::event::Events;

/// Where the records of a table wait while they are compared with its rows.
const STAGE: &str = "pg_temp.nexus_records";

impl PostgresLoad {
    /// Puts the records beside the table, in a table of the same types.
    pub(super) async fn stage(&self, table: &Table, source: &mut RecordFile, events: &Events) -> Result<()> {
        let columns: Vec<&str> = table.stored().map(|column| column.quoted.as_str()).collect();
        let sql = format!(
            "drop table if exists {STAGE}; create temporary table nexus_records on commit drop as
             select {} from {} with no data",
            columns.join(", "),
            table.name()
        );
        self.session.run(&sql, "make a temporary table").await?;
        self.copy(table, STAGE, source, events).await
    }

    /// Adds the records whose key is not in the table, and sees to those whose key is there with other values.
    pub(super) async fn merge(&self, table: &Table, conflict: Conflict, loaded: &mut LoadedTable) -> Result<()> {
        let (quoted, source) = (&table.relation.quoted, table.name());
        let columns: Vec<&str> = table.stored().map(|column| column.quoted.as_str()).collect();
        let list = columns.join(", ");
        if columns.is_empty() {
            // All rows are alike: only their number counts.
            let missing = loaded.records.saturating_sub(table.present);
            let sql = format!("insert into {quoted} select from generate_series(1, {missing})");
            loaded.added = self.change(&sql, table).await?;
            return Ok(());
        }
        let (ours, theirs) = (row_text("s", &columns), row_text("t", &columns));
        if table.key.is_empty() {
            // Without a key a row is its own: as many are added as there are fewer.
            let sql = format!(
                "insert into {quoted} ({list}) overriding system value
                 select {list} from (select s.*, {ours} as \"nexus: row\",
                                            row_number() over (partition by {ours}) as \"nexus: number\" from {STAGE} s) s
                   left join (select {theirs} as row, count(*) as number from {source} t group by 1) p
                     on p.row = s.\"nexus: row\"
                  where s.\"nexus: number\" > coalesce(p.number, 0)"
            );
            loaded.added = self.change(&sql, table).await?;
            return Ok(());
        }
        let key = table.same_key();
        let other = format!("from {STAGE} s join {source} t on {key} where {ours} <> {theirs}");
        let shown: Vec<String> = table
            .key
            .iter()
            .map(|column| format!("{} || s.{}::text", literal(&format!("{}=", column.name)), column.quoted))
            .collect();
        let shown = shown.join(" || ', ' || ");
        loaded.conflicts = self.number(&format!("select count(*) {other}"), table).await?;
        if loaded.conflicts > 0 {
            let sql = format!("select {shown} as key {other} order by 1 limit {EXAMPLES}");
            let rows = self.session.rows(&sql, "compare the records").await?;
            loaded.examples = rows.iter().map(|row| row.text(0).to_owned()).collect();
            if conflict == Conflict::Overwrite {
                let sql = format!("delete from {source} t using {STAGE} s where {key} and {ours} <> {theirs}");
                loaded.removed = self.change(&sql, table).await?;
            }
        }
        let sql = format!(
            "insert into {quoted} ({list}) overriding system value
             select {list} from {STAGE} s where not exists (select from {source} t where {key})"
        );
        loaded.added = self.change(&sql, table).await?;
        let sql =
            format!("select count(*) from {STAGE} s where not exists (select from {source} t where {ours} = {theirs})");
        let unlike = self.number(&sql, table).await?;
        let kept = if conflict == Conflict::Overwrite { 0 } else { loaded.conflicts };
        if unlike == kept {
            return Ok(());
        }
        Err(Error::damaged(format!(
            "{unlike} records of {} are not in the table after they were added",
            table.relation.name
        )))
    }

    async fn number(&self, sql: &str, table: &Table) -> Result<u64> {
        catalogue::count(&self.session, sql, &format!("compare the records of {}", table.relation.name)).await
    }

    async fn change(&self, sql: &str, table: &Table) -> Result<u64> {
        let what = format!("load records into {}", table.relation.name);
        self.session.client().execute(sql, &[]).await.map_err(|cause| self.refused(&what, &cause))
    }
}

/// A row as text, by the types' own output functions: some types know no equality, and for others it hides a change.
fn row_text(row: &str, columns: &[&str]) -> String {
    let columns: Vec<String> = columns.iter().map(|column| format!("{row}.{column}")).collect();
    format!("row({})::text", columns.join(", "))
}
