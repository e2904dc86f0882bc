//! What a dump does not hold of its database: settings, limits, grants, as statements for a new one.
//!
//! All of it comes from a stored document that says what somebody set on a server, so nothing of it is SQL: each value is
//! quoted, and each statement is sent alone, through a protocol that takes no second one.

use super::catalogue::{identifier, literal};
use super::connect::Session;
use super::restore::PostgresPlan;
use crate::error::{Error, Result, chain};
use crate::point::{PostgresFacts, PostgresSetting};

/// Settings whose value is a list of names, quoted one by one: `variable_is_guc_list_quote` in PostgreSQL's `dumputils.c`.
pub(super) const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];
/// What can be granted on a database.
pub(super) const PRIVILEGES: [&str; 3] = ["CONNECT", "CREATE", "TEMPORARY"];

/// Statements, each with what it brings back, and what cannot be said in one.
#[derive(Debug, Default, PartialEq, Eq)]
struct Dress {
    statements: Vec<(String, String)>,
    unkept: Vec<String>,
}

/// Gives a new database what the dump does not hold; answers what could not be brought back, in words.
pub(super) async fn dress(plan: &PostgresPlan, fresh: &str, session: &Session) -> Result<Vec<String>> {
    let Dress { statements, mut unkept } = statements(&plan.facts, fresh, plan.liberties.without_owners);
    for (what, sql) in statements {
        let done = session.client().execute(&sql, &[]).await;
        match done.map_err(|cause| session.failed("set up the new database", &cause)) {
            Ok(_) => {}
            Err(error @ (Error::Denied { .. } | Error::Missing { .. } | Error::Service { .. })) => {
                unkept.push(format!("{what}: {}", chain(&error)));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(unkept)
}

fn statements(facts: &PostgresFacts, fresh: &str, without_grants: bool) -> Dress {
    let name = identifier(fresh);
    let mut dress = Dress::default();
    for setting in &facts.settings {
        match assignment(setting, &name) {
            Some(sql) => dress.statements.push((format!("the setting {}", setting.name), sql)),
            None => dress.unkept.push(format!("the setting {}: its value is no list of names", setting.name)),
        }
    }
    if facts.connection_limit >= 0 {
        let sql = format!("alter database {name} connection limit {}", facts.connection_limit);
        dress.statements.push(("the connection limit".to_owned(), sql));
    }
    if facts.is_template {
        dress.statements.push(("being a template".to_owned(), format!("alter database {name} is_template true")));
    }
    if let (Some(grants), false) = (&facts.grants, without_grants) {
        dress.statements.push(("the grants".to_owned(), format!("revoke all on database {name} from public")));
        for grant in grants {
            let to = grant.to.as_deref().map_or_else(|| "public".to_owned(), identifier);
            let what = format!("the grant of {} to {to}", grant.privilege);
            if !PRIVILEGES.contains(&grant.privilege.as_str()) {
                dress.unkept.push(format!("{what}: no such privilege is known"));
                continue;
            }
            let option = if grant.grantable { " with grant option" } else { "" };
            dress.statements.push((what, format!("grant {} on database {name} to {to}{option}", grant.privilege)));
        }
    }
    dress
}

fn assignment(setting: &PostgresSetting, name: &str) -> Option<String> {
    let who = match &setting.role {
        Some(role) => format!("role {} in database {name}", identifier(role)),
        None => format!("database {name}"),
    };
    let value = if LISTS.contains(&setting.name.as_str()) {
        let names: Vec<String> = elements(&setting.value)?.iter().map(|name| literal(name)).collect();
        if names.is_empty() { "''".to_owned() } else { names.join(", ") }
    } else {
        literal(&setting.value)
    };
    let parts: Vec<String> = setting.name.split('.').map(identifier).collect();
    Some(format!("alter {who} set {} to {value}", parts.join(".")))
}

/// The names in a list as the server stores one, as `SplitGUCList` in PostgreSQL's `dumputils.c` takes it apart; nothing
/// when it is no such list.
fn elements(list: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = list.trim_ascii_start();
    if rest.is_empty() {
        return Some(names);
    }
    loop {
        let (name, after) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted_name(quoted)?
        } else {
            let end = rest.find(|letter: char| letter == ',' || letter.is_ascii_whitespace());
            let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
            (name.to_owned(), after)
        };
        if name.is_empty() && !rest.starts_with('"') {
            return None;
        }
        names.push(name);
        rest = after.trim_ascii_start();
        if rest.is_empty() {
            return Some(names);
        }
        rest = rest.strip_prefix(',')?.trim_ascii_start();
    }
}

/// A name up to its closing quotation mark, of which a doubled one stands for itself, and what follows.
fn quoted_name(text: &str) -> Option<(String, &str)> {
    let (mut name, mut rest) = (String::new(), text);
    loop {
        let (before, after) = rest.split_once('"')?;
        name.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_taken_apart_as_the_server_does_and_nothing_of_it_is_sql() {
        let names = |list: &str| elements(list).unwrap_or_else(|| vec!["no list".to_owned()]);
        assert_eq!(names(r#"public, "Odd. ""schema""", "$user""#), ["public", "Odd. \"schema\"", "$user"]);
        assert_eq!(names(""), Vec::<String>::new());
        assert_eq!(names("\"\""), [""]);
        assert_eq!(names(" a ,b"), ["a", "b"]);
        for wrong in ["a,", ",a", "\"a", "a b", "\"a\"b", "a,,b"] {
            assert_eq!(elements(wrong), None, "{wrong}");
        }
        let evil = PostgresSetting {
            role: None,
            name: "search_path".to_owned(),
            value: "x;alter/**/role/**/evil/**/superuser".to_owned(),
        };
        let sql = assignment(&evil, "\"new\"").expect("it is a list of one name");
        assert_eq!(sql, "alter database \"new\" set \"search_path\" to 'x;alter/**/role/**/evil/**/superuser'");
    }
}
