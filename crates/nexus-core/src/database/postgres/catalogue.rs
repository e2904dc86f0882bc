//! What a PostgreSQL database consists of, as one session sees it.

use std::collections::BTreeMap;

use super::connect::Session;
use crate::error::{DatabaseWords, Error, Result};
use crate::point::{PostgresExtension, PostgresFacts, PostgresGrant, PostgresSetting, RecordColumn};

/// Schemas that belong to the server itself; names that begin with `pg_` are reserved for it.
const USER_SCHEMA: &str = "n.nspname !~ '^pg_' and n.nspname <> 'information_schema'";

/// The first number that the catalogue gives to what somebody makes, as `FirstNormalObjectId` in PostgreSQL's `transam.h`.
const FIRST_MADE: u32 = 16_384;
/// Asks how many large objects there are.
pub(crate) const LARGE_OBJECTS: &str = "select count(*) from pg_largeobject_metadata";

/// A table with rows of its own, or a partitioned one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own that the catalogue has")]
pub(crate) struct Relation {
    /// The catalogue's number for it.
    pub(crate) oid: u32,
    /// Its schema and name, quoted for SQL.
    pub(crate) quoted: String,
    /// Its name in the manifest: `patient` in the schema `public`, `billing.invoice` elsewhere.
    pub(crate) name: String,
    /// True when its rows lie in its partitions.
    pub(crate) partitioned: bool,
    /// True when it is a partition of another.
    pub(crate) partition: bool,
    /// The extension it belongs to, whose script makes it.
    pub(crate) extension: Option<String>,
    /// True when this role may read it.
    pub(crate) readable: bool,
    /// True when it belongs to an extension that has not said that its rows are to be dumped.
    pub(crate) made_by_script: bool,
    /// What stands for a partitioned table of which some partitions lie on another server: those that lie here.
    local: Option<String>,
    /// Bytes of values that are too large for their rows, compressed as they lie.
    pub(crate) beside_rows: u64,
    /// True when its rows cannot be read because this server is a standby and they are not in the log.
    pub(crate) unlogged_on_standby: bool,
}

impl Relation {
    /// What stands after `FROM`, by the name `t`: a partitioned table with its partitions, any other without its heirs.
    ///
    /// Partitions that are foreign tables are left out, as `pg_dump` leaves them out.
    pub(crate) fn source(&self) -> String {
        match &self.local {
            Some(local) => format!("{local} t"),
            None if self.partitioned => format!("{} t", self.quoted),
            None => format!("only {} t", self.quoted),
        }
    }

    /// True when some of its partitions are foreign tables.
    pub(crate) fn has_foreign_partitions(&self) -> bool {
        self.local.is_some()
    }

    /// Why its rows are not exported on their own, if they are not.
    pub(crate) fn left_out(&self) -> Option<String> {
        match &self.extension {
            Some(extension) => Some(format!("it belongs to the extension {extension}")),
            None if self.partition => Some("its rows are with the table that it is a partition of".to_owned()),
            None if self.unlogged_on_standby => Some("it is unlogged, and a standby has none of its rows".to_owned()),
            None => None,
        }
    }
}

/// How a column's text becomes JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `t` and `f`.
    Boolean,
    /// A number, or text past 2^53.
    Integer,
    /// A number, or text when it is not finite.
    Real,
    /// Text as it is.
    Text,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    /// Its name.
    pub(crate) name: String,
    /// The same, quoted for SQL.
    pub(crate) quoted: String,
    /// Its type as `format_type` writes it.
    pub(crate) declared: String,
    /// How its text becomes JSON.
    pub(crate) shape: Shape,
    /// True when the database computes it.
    pub(crate) generated: bool,
    /// Of a primary key's column: the equality of its index, as SQL writes it wherever it lies.
    pub(crate) equals: Option<String>,
}

impl Column {
    /// The column as the manifest has it.
    pub(crate) fn recorded(&self) -> RecordColumn {
        RecordColumn { name: self.name.clone(), declared: self.declared.clone(), generated: self.generated }
    }
}

/// A table's columns, key and sequences.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The columns in order.
    pub(crate) columns: Vec<Column>,
    /// The primary key's columns, in its order, as positions in `columns`.
    pub(crate) key: Vec<usize>,
    /// The last value that the sequence of a column gave out.
    pub(crate) sequences: BTreeMap<String, i64>,
}

/// A name in the manifest: the schema `public` is left out, and what could be misread is quoted as in SQL.
pub(crate) fn shown(schema: &str, table: &str) -> String {
    let quoted = |name: &str| {
        if name.contains(['.', '"']) || name.is_empty() {
            format!("\"{}\"", name.replace('"', "\"\""))
        } else {
            name.to_owned()
        }
    };
    if schema == "public" { quoted(table) } else { format!("{}.{}", quoted(schema), quoted(table)) }
}

/// The schema and the table that a name in the manifest stands for.
pub(crate) fn parts_of(shown: &str) -> (String, String) {
    let mut parts = vec![String::new()];
    let mut letters = shown.chars().peekable();
    let mut quoted = false;
    while let Some(letter) = letters.next() {
        let last = parts.len() - 1;
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => parts[last].extend(letters.next()),
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            other => parts[last].push(other),
        }
    }
    let table = parts.pop().unwrap_or_default();
    (parts.pop().unwrap_or_else(|| "public".to_owned()), table)
}

/// A name, quoted for SQL whatever it is.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text, quoted for SQL whatever it is.
pub(crate) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// A number of things. What is no number is an error: it must not pass for none.
pub(crate) async fn count(session: &Session, sql: &str, what: &str) -> Result<u64> {
    let answer = session.value(sql, what).await?;
    answer.parse().map_err(|_| Error::Service {
        what: format!("cannot {what} in {}", session.place()),
        cause: Some(DatabaseWords(format!("it answered {answer:?}")).into()),
    })
}

/// All tables of all schemas that are not the server's own, in the order of their names.
pub(crate) async fn relations(session: &Session) -> Result<Vec<Relation>> {
    let sql = format!(
        "select c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname), n.nspname, c.relname, c.relkind = 'p',
                c.relispartition, e.extname, has_table_privilege(c.oid, 'SELECT'),
                e.oid is not null and not coalesce(c.oid = any(e.extconfig), false),
                case when c.relkind = 'p' then ({LOCAL_PARTITIONS}) end,
                c.relpersistence = 'u' and pg_is_in_recovery(),
                case when c.relkind = 'p'
                     then (select max(pg_relation_size(p.reltoastrelid)) from pg_partition_tree(c.oid) tree
                             join pg_class p on p.oid = tree.relid and p.reltoastrelid <> 0)
                     when c.reltoastrelid <> 0 then pg_relation_size(c.reltoastrelid) end
           from pg_class c
           join pg_namespace n on n.oid = c.relnamespace
           left join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = c.oid and d.objsubid = 0
                                and d.deptype = 'e' and d.refclassid = 'pg_extension'::regclass
           left join pg_extension e on e.oid = d.refobjid
          where c.relkind in ('r', 'p') and {USER_SCHEMA}
          order by n.nspname collate \"C\", c.relname collate \"C\""
    );
    let rows = session.rows(&sql, "list the tables").await?;
    let relations = rows.iter().map(|row| Relation {
        oid: row.number(0),
        quoted: row.text(1).to_owned(),
        name: shown(row.text(2), row.text(3)),
        partitioned: row.is_true(4),
        partition: row.is_true(5),
        extension: row.maybe(6).map(str::to_owned),
        readable: row.is_true(7),
        made_by_script: row.is_true(8),
        local: row.maybe(9).map(str::to_owned),
        unlogged_on_standby: row.is_true(10),
        beside_rows: row.number(11),
    });
    Ok(relations.collect())
}

/// Of a partitioned table `c`: null when all of its partitions lie here, else a select of those that do. The first one
/// gives nothing, so that there is always one.
const LOCAL_PARTITIONS: &str = "
    with leaf as (select p.oid, p.relkind, quote_ident(s.nspname) || '.' || quote_ident(p.relname) as name
                    from pg_partition_tree(c.oid) tree
                    join pg_class p on p.oid = tree.relid and tree.isleaf
                    join pg_namespace s on s.oid = p.relnamespace),
         columns as (select string_agg(quote_ident(a.attname), ', ' order by a.attnum) as names
                       from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)
    select '(' || string_agg(format('select %s from only %s', columns.names, arm.name), ' union all ' order by arm.place)
               || ')'
      from columns, (select 0 as place, quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name
                     union all select 1, leaf.name from leaf where leaf.relkind = 'r') arm
     where exists (select from leaf where leaf.relkind = 'f')";

/// What has rows for this database's users that no dump or record has, each in a person's words.
pub(crate) async fn elsewhere(session: &Session) -> Result<BTreeMap<String, String>> {
    let sql = format!(
        "select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where c.relkind = 'f' and {USER_SCHEMA} order by 1, 2"
    );
    let rows = session.rows(&sql, "list the foreign tables").await?;
    let one = |row: &super::connect::TextRow| {
        (shown(row.text(0), row.text(1)), "a foreign table: its rows lie on another server".to_owned())
    };
    Ok(rows.iter().map(one).collect())
}

/// What a dump has only in part, in a person's words: subscriptions that begin anew, options that others may not read.
pub(crate) async fn in_part(session: &Session) -> Result<Vec<String>> {
    let sql = "select 'subscriptions: they come back disabled, and do not know what they have copied'
                 from pg_subscription where subdbid = (select oid from pg_database where datname = current_database())
                limit 1";
    let subscriptions = session.rows(sql, "look for subscriptions").await?;
    let sql = "select format('the user mapping of %s for the server %s, whose options this role may not read',
                             m.usename, m.srvname)
                 from pg_user_mappings m where m.umoptions is null and not
                      (select rolsuper from pg_roles where rolname = current_user) order by 1";
    let mappings = session.rows(sql, "look for user mappings").await?;
    Ok(subscriptions.iter().chain(&mappings).map(|row| row.text(0).to_owned()).collect())
}

/// Columns, keys and sequences of all tables, by the catalogue's number.
pub(crate) async fn layouts(session: &Session) -> Result<BTreeMap<u32, Layout>> {
    let mut layouts: BTreeMap<u32, Layout> = BTreeMap::new();
    let columns = format!(
        "with recursive base(oid, type) as (
             select oid, typbasetype from pg_type where typtype = 'd'
             union all
             select b.oid, t.typbasetype from base b join pg_type t on t.oid = b.type where t.typtype = 'd')
         select a.attrelid, a.attname, quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
                coalesce((select b.type from base b join pg_type t on t.oid = b.type
                           where b.oid = a.atttypid and t.typtype <> 'd'), a.atttypid)::regtype,
                a.attgenerated <> '', a.attnum
           from pg_attribute a
           join pg_class c on c.oid = a.attrelid
           join pg_namespace n on n.oid = c.relnamespace
          where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p') and {USER_SCHEMA}
          order by a.attrelid, a.attnum"
    );
    let mut positions: BTreeMap<(u32, i32), usize> = BTreeMap::new();
    for row in session.rows(&columns, "list the columns").await? {
        let layout = layouts.entry(row.number(0)).or_default();
        positions.insert((row.number(0), row.number(6)), layout.columns.len());
        layout.columns.push(Column {
            name: row.text(1).to_owned(),
            quoted: row.text(2).to_owned(),
            declared: row.text(3).to_owned(),
            shape: shape(row.text(4)),
            generated: row.is_true(5),
            equals: None,
        });
    }
    let keys = "select i.indrelid, k.number, format('operator(%I.%s)', n.nspname, o.oprname)
                  from pg_index i
                 cross join unnest(i.indkey::int2[], i.indclass::oid[]) with ordinality k(number, class, place)
                  left join pg_opclass c on c.oid = k.class
                  left join pg_amop a on a.amopfamily = c.opcfamily and a.amoplefttype = c.opcintype
                                     and a.amoprighttype = c.opcintype and a.amopstrategy = 3
                  left join pg_operator o on o.oid = a.amopopr
                  left join pg_namespace n on n.oid = o.oprnamespace
                 where i.indisprimary and k.place <= i.indnkeyatts
                 order by i.indrelid, k.place";
    for row in session.rows(keys, "list the primary keys").await? {
        if let (Some(layout), Some(at)) =
            (layouts.get_mut(&row.number(0)), positions.get(&(row.number(0), row.number(1))))
        {
            layout.key.push(*at);
            layout.columns[*at].equals = row.maybe(2).map(str::to_owned);
        }
    }
    // Neither function may see what is no sequence, and only CASE keeps an order.
    let sequences = format!(
        "select d.refobjid, d.refobjsubid,
                            case when c.relkind = 'S' then
                                case when has_sequence_privilege(c.oid, 'SELECT') then pg_sequence_last_value(c.oid) end
                            end
                       from pg_class c
                       join pg_namespace n on n.oid = c.relnamespace
                       join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = c.oid
                                       and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')
                      where c.relkind = 'S' and d.refobjsubid > 0 and c.relpersistence <> 't' and {USER_SCHEMA}
                        and not (c.relpersistence = 'u' and pg_is_in_recovery())"
    );
    for row in session.rows(&sequences, "read the sequences").await? {
        if let (Some(layout), Some(at), Some(value)) = (
            layouts.get_mut(&row.number(0)),
            positions.get(&(row.number(0), row.number(1))),
            row.maybe(2).and_then(|value| value.parse().ok()),
        ) {
            layout.sequences.insert(layout.columns[*at].name.clone(), value);
        }
    }
    Ok(layouts)
}

fn shape(base: &str) -> Shape {
    match base {
        "boolean" => Shape::Boolean,
        "smallint" | "integer" | "bigint" | "oid" => Shape::Integer,
        "real" | "double precision" => Shape::Real,
        _ => Shape::Text,
    }
}

/// What the database is beyond its tables; of what it cannot keep, `lacks` names only what this sees.
pub(crate) async fn facts(session: &Session) -> Result<PostgresFacts> {
    let locale = match session.major() {
        ..=14 => "'c'::text, null::text, null::text",
        15 => "d.datlocprovider::text, d.daticulocale, null::text",
        16 => "d.datlocprovider::text, d.daticulocale, d.daticurules",
        _ => "d.datlocprovider::text, d.datlocale, d.daticurules",
    };
    let sql = format!(
        "select current_setting('server_version'), pg_encoding_to_char(d.encoding), d.datcollate, d.datctype,
                pg_get_userbyid(d.datdba), shobj_description(d.oid, 'pg_database'), d.datconnlimit, current_user,
                pg_database_size(d.oid), {locale}, d.datistemplate, nullif(t.spcname, 'pg_default')
           from pg_database d join pg_tablespace t on t.oid = d.dattablespace where d.datname = current_database()"
    );
    let rows = session.rows(&sql, "read the database's properties").await?;
    let row = rows.first().cloned().expect("a session is in a database");
    let large_objects = count(session, LARGE_OBJECTS, "count the large objects").await?;
    Ok(PostgresFacts {
        server: row.text(0).to_owned(),
        client: String::new(),
        encoding: row.text(1).to_owned(),
        collate: row.text(2).to_owned(),
        ctype: row.text(3).to_owned(),
        locale_provider: provider(row.text(9)).to_owned(),
        locale: row.maybe(10).map(str::to_owned),
        icu_rules: row.maybe(11).map(str::to_owned),
        owner: row.text(4).to_owned(),
        comment: row.maybe(5).map(str::to_owned),
        connection_limit: row.number::<i64>(6),
        is_template: row.is_true(12),
        tablespace: row.maybe(13).map(str::to_owned),
        tablespaces: names(session, TABLESPACES, "list the tablespaces").await?,
        role: row.text(7).to_owned(),
        size: row.number(8),
        extensions: extensions(session).await?,
        owners: owners(session).await?,
        roles: names(session, ROLES, "list the roles").await?,
        settings: settings(session).await?,
        grants: grants(session).await?,
        large_objects,
        compression: String::new(),
        globals: None,
        lacks: names(session, LABELS, "list the security labels").await?,
    })
}

fn provider(letter: &str) -> &'static str {
    match letter {
        "i" => "icu",
        "b" => "builtin",
        _ => "libc",
    }
}

async fn extensions(session: &Session) -> Result<Vec<PostgresExtension>> {
    let sql = "select e.extname, e.extversion, n.nspname from pg_extension e
                 join pg_namespace n on n.oid = e.extnamespace order by 1";
    let rows = session.rows(sql, "list the extensions").await?;
    let one = |row: &super::connect::TextRow| PostgresExtension {
        name: row.text(0).to_owned(),
        version: row.text(1).to_owned(),
        schema: row.text(2).to_owned(),
    };
    Ok(rows.iter().map(one).collect())
}

/// Tablespaces other than the database's own that something here lies in.
const TABLESPACES: &str = "select distinct t.spcname from pg_class c join pg_tablespace t on t.oid = c.reltablespace
     where c.relpersistence <> 't' and t.spcname <> 'pg_global' order by 1";
/// Roles that may use something here, or are named by a policy or a user mapping.
const ROLES: &str = "select distinct r.rolname
      from pg_shdepend s
      join pg_database d on d.oid = s.dbid and d.datname = current_database()
      join pg_roles r on s.refclassid = 'pg_authid'::regclass and r.oid = s.refobjid
     where (s.deptype in ('a', 'r') or s.classid = 'pg_user_mapping'::regclass) and r.rolname !~ '^pg_' order by 1";
/// Security labels of the database itself, which no dump has, as what is lacking.
const LABELS: &str = "select format('the security label %L of the database, by %s', l.label, l.provider)
      from pg_shseclabel l join pg_database d on l.classoid = 'pg_database'::regclass and l.objoid = d.oid
     where d.datname = current_database() order by 1";

/// Roles that a restore must make owners again. What an extension made is its restorer's.
///
/// The role that made the server is not in `pg_shdepend`: what it owns is asked for catalogue by catalogue.
async fn owners(session: &Session) -> Result<Vec<String>> {
    const OWNED: [(&str, &str, &str); 17] = [
        ("pg_class", "relowner", "relpersistence <> 't' and relkind not in ('i', 'I', 't')"),
        ("pg_proc", "proowner", "true"),
        ("pg_type", "typowner", "typrelid = 0 and typelem = 0"),
        ("pg_namespace", "nspowner", "nspname !~ '^pg_'"),
        ("pg_operator", "oprowner", "true"),
        ("pg_opfamily", "opfowner", "true"),
        ("pg_opclass", "opcowner", "true"),
        ("pg_collation", "collowner", "true"),
        ("pg_conversion", "conowner", "true"),
        ("pg_ts_dict", "dictowner", "true"),
        ("pg_ts_config", "cfgowner", "true"),
        ("pg_statistic_ext", "stxowner", "true"),
        ("pg_largeobject_metadata", "lomowner", "true"),
        ("pg_foreign_data_wrapper", "fdwowner", "true"),
        ("pg_foreign_server", "srvowner", "true"),
        ("pg_event_trigger", "evtowner", "true"),
        ("pg_publication", "pubowner", "true"),
    ];
    let free =
        "not exists (select from pg_depend e where e.classid = o.classid and e.objid = o.objid and e.deptype = 'e')";
    let asked = OWNED.map(|(catalogue, owner, which)| {
        format!(
            "select '{catalogue}'::regclass::oid, oid, {owner} from {catalogue}
              where {owner} < {FIRST_MADE} and oid >= {FIRST_MADE} and {which}"
        )
    });
    // Until 14 the schema that every database has was that role's own: no dump says so.
    let oldest = if session.major() >= 15 { 0 } else { FIRST_MADE };
    let public = format!("select nspowner from pg_namespace where nspname = 'public' and nspowner >= {oldest}");
    let sql = format!(
        "with owned(classid, objid, owner) as (
             select s.classid, s.objid, s.refobjid from pg_shdepend s join pg_database d on d.oid = s.dbid
              where d.datname = current_database() and s.refclassid = 'pg_authid'::regclass and s.deptype = 'o'
                and s.classid not in ('pg_extension'::regclass, 'pg_user_mapping'::regclass)
             union all {})
         select r.rolname from pg_roles r
          where r.rolname !~ '^pg_' and (
                r.oid in (select o.owner from owned o where {free})
                or r.oid in (select datdba from pg_database where datname = current_database())
                or r.oid in ({public}))
          order by 1",
        asked.join(" union all ")
    );
    names(session, &sql, "list the owners").await
}

async fn names(session: &Session, sql: &str, what: &str) -> Result<Vec<String>> {
    Ok(session.rows(sql, what).await?.iter().map(|row| row.text(0).to_owned()).collect())
}

async fn settings(session: &Session) -> Result<Vec<PostgresSetting>> {
    let sql = "select case when s.setrole = 0 then null else pg_get_userbyid(s.setrole) end, c.setting
                 from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase, unnest(s.setconfig) c(setting)
                where d.datname = current_database() order by 1 nulls first, 2";
    let rows = session.rows(sql, "read the database's settings").await?;
    let one = |row: &super::connect::TextRow| {
        let (name, value) = row.text(1).split_once('=').unwrap_or((row.text(1), ""));
        PostgresSetting { role: row.maybe(0).map(str::to_owned), name: name.to_owned(), value: value.to_owned() }
    };
    Ok(rows.iter().map(one).collect())
}

async fn grants(session: &Session) -> Result<Option<Vec<PostgresGrant>>> {
    let sql = "select d.datacl is null, case when a.grantee = 0 then null else pg_get_userbyid(a.grantee) end,
                      a.privilege_type, a.is_grantable
                 from pg_database d left join lateral aclexplode(d.datacl) a on true
                where d.datname = current_database() order by 2 nulls first, 3";
    let rows = session.rows(sql, "read the database's grants").await?;
    if rows.first().is_none_or(|row| row.is_true(0)) {
        return Ok(None);
    }
    let granted = rows.iter().filter(|row| row.maybe(2).is_some()).map(|row| PostgresGrant {
        to: row.maybe(1).map(str::to_owned),
        privilege: row.text(2).to_owned(),
        grantable: row.is_true(3),
    });
    Ok(Some(granted.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tables_are_shown_by_one_name() {
        assert_eq!(shown("public", "patient"), "patient");
        assert_eq!(shown("billing", "invoice"), "billing.invoice");
        let odd = [("a.b", "c"), ("a", "b.c"), ("public", "a.b"), ("public", "\"a\".b"), ("a", "b"), ("public", "")];
        let names: std::collections::BTreeSet<String> =
            odd.iter().map(|(schema, table)| shown(schema, table)).collect();
        assert_eq!(names.len(), odd.len(), "{names:?}");
        for (schema, table) in odd {
            assert_eq!(parts_of(&shown(schema, table)), (schema.to_owned(), table.to_owned()));
        }
    }

    #[test]
    fn texts_and_names_are_quoted_whatever_they_hold() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
    }
}
