//! The few statements about a database itself that a dump carries, read back into what a manifest says of one.
//!
//! They are as `pg_dump` writes them (`dumpDatabase`, `dumpDatabaseConfig` in `pg_dump.c`, `buildACLCommands` in `dumputils.c`); what is
//! not understood is answered as such, and nothing of them is ever run.

use std::collections::BTreeMap;

use super::catalogue::identifier;
use crate::point::{PostgresGrant, PostgresSetting};

/// A word, a name or a text of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A word or a name that needs no quotes, as it was written.
    Word(String),
    /// A name in quotation marks.
    Name(String),
    /// A text.
    Text(String),
    /// A sign.
    Sign(char),
}

impl Token {
    fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own.eq_ignore_ascii_case(word))
    }

    /// What it stands for, whatever it is.
    fn value(&self) -> String {
        match self {
            Self::Word(text) | Self::Name(text) | Self::Text(text) => text.clone(),
            Self::Sign(sign) => sign.to_string(),
        }
    }
}

/// The statements of a text, each in its tokens.
fn statements(text: &str) -> Vec<Vec<Token>> {
    let mut statements = vec![Vec::new()];
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let token = match letter {
            ';' => {
                statements.push(Vec::new());
                continue;
            }
            letter if letter.is_ascii_whitespace() => continue,
            '"' => Token::Name(quoted(&mut letters, '"', false)),
            '\'' => Token::Text(quoted(&mut letters, '\'', false)),
            'E' | 'e' if letters.peek() == Some(&'\'') => {
                letters.next();
                Token::Text(quoted(&mut letters, '\'', true))
            }
            letter if is_word(letter) || letter == '-' => {
                let mut word = String::from(letter);
                while let Some(letter) = letters.next_if(|letter| is_word(*letter)) {
                    word.push(letter);
                }
                Token::Word(word)
            }
            sign => Token::Sign(sign),
        };
        if let Some(statement) = statements.last_mut() {
            statement.push(token);
        }
    }
    statements.retain(|statement| !statement.is_empty());
    statements
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '$'
}

/// What stands before the closing mark, of which a doubled one stands for itself.
fn quoted(letters: &mut std::iter::Peekable<std::str::Chars<'_>>, mark: char, escaped: bool) -> String {
    let mut text = String::new();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if escaped => text.extend(letters.next()),
            letter if letter == mark && letters.next_if_eq(&mark).is_none() => break,
            letter => text.push(letter),
        }
    }
    text
}

/// A schema and a name in it.
pub(super) type Named = (String, String);

/// The partitions that a text attaches, each with the table that it becomes a part of.
pub(super) fn partitions(definition: &str) -> Vec<(Named, Named)> {
    let path = |words: &[Token]| match words {
        [schema, Token::Sign('.'), name, ..] => Some((schema.value(), name.value())),
        _ => None,
    };
    let mut found = Vec::new();
    for words in statements(definition) {
        // Until 11 a partition was made as one.
        let made_of = words.windows(2).position(|two| two[0].is("partition") && two[1].is("of"));
        if let (Some(at), true) = (made_of, words[0].is("create")) {
            if let (Some(child), Some(parent)) = (words.get(2..).and_then(path), path(&words[at + 2..])) {
                found.push((child, parent));
            }
            continue;
        }
        let attaches = |two: &[Token]| two[0].is("attach") && two[1].is("partition");
        let (Some(at), Some(table)) =
            (words.windows(2).position(attaches), words.iter().position(|word| word.is("only")))
        else {
            continue;
        };
        if let (Some(parent), Some(child)) = (words.get(table + 1..at).and_then(path), path(&words[at + 2..])) {
            found.push((child, parent));
        }
    }
    found
}

/// True for the statement of a table whose rows lie in its partitions.
pub(super) fn is_partitioned(definition: &str) -> bool {
    let mut all = statements(definition).into_iter();
    all.any(|words| words[0].is("create") && words.windows(2).any(|two| two[0].is("partition") && two[1].is("by")))
}

/// The options of `CREATE DATABASE`, by their names in capitals.
pub(super) fn options(definition: &str) -> BTreeMap<String, String> {
    let statements = statements(definition);
    let Some(create) = statements.first().filter(|words| words.len() > 2 && words[0].is("create")) else {
        return BTreeMap::new();
    };
    let pairs = create.windows(3).filter(|three| three[1] == Token::Sign('='));
    pairs.map(|three| (three[0].value().to_ascii_uppercase(), three[2].value())).collect()
}

/// What `DATABASE PROPERTIES` says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Properties {
    pub(super) settings: Vec<PostgresSetting>,
    pub(super) connection_limit: Option<i64>,
    pub(super) is_template: bool,
}

/// Reads the statements that follow `CREATE DATABASE`.
pub(super) fn properties(definition: &str) -> Properties {
    let mut found = Properties::default();
    for words in statements(definition) {
        match words.as_slice() {
            [alter, database, _, set, name, to, value @ ..]
                if alter.is("alter") && database.is("database") && set.is("set") && to.is("to") =>
            {
                found.settings.push(setting(None, name, value));
            }
            [alter, role, who, within, database, _, set, name, to, value @ ..]
                if alter.is("alter")
                    && role.is("role")
                    && within.is("in")
                    && database.is("database")
                    && set.is("set")
                    && to.is("to") =>
            {
                found.settings.push(setting(Some(who.value()), name, value));
            }
            [alter, _, _, connection, limit, .., number]
                if alter.is("alter") && connection.is("connection") && limit.is("limit") =>
            {
                found.connection_limit = number.value().parse().ok();
            }
            [alter, _, _, template, _, value] if alter.is("alter") && template.is("is_template") => {
                found.is_template = value.is("true");
            }
            _ => {}
        }
    }
    found
}

/// A setting as the server stores it: a list with those names in quotation marks that need them, anything else as it is.
fn setting(role: Option<String>, name: &Token, value: &[Token]) -> PostgresSetting {
    let names: Vec<String> = value.iter().filter(|token| **token != Token::Sign(',')).map(Token::value).collect();
    let name = name.value();
    let value = if super::dress::LISTS.contains(&name.as_str()) {
        let names = names.iter().filter(|name| !name.is_empty());
        names.map(|name| if is_plain(name) { name.clone() } else { identifier(name) }).collect::<Vec<_>>().join(", ")
    } else {
        names.join(", ")
    };
    PostgresSetting { role, name, value }
}

fn is_plain(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    name.bytes().next().is_some_and(letter) && name.bytes().all(|byte| letter(byte) || byte.is_ascii_digit())
}

/// The text of `COMMENT ON … IS '…'`.
pub(super) fn comment(definition: &str) -> Option<String> {
    let statements = statements(definition);
    match statements.first()?.as_slice() {
        [.., is, Token::Text(text)] if is.is("is") => Some(text.clone()),
        _ => None,
    }
}

/// Those to whom or from whom something is granted or taken, but everybody.
pub(super) fn grantees(definition: &str) -> Vec<String> {
    let mut found = Vec::new();
    for words in statements(definition) {
        let Some(at) = words.iter().rposition(|word| word.is("to") || word.is("from")) else { continue };
        let granted = words.iter().any(|word| word.is("grant") || word.is("revoke"));
        if let (Some(name), true) = (words.get(at + 1).filter(|name| !name.is("public")), granted) {
            found.push(name.value());
        }
    }
    found
}

/// The privileges on a database after statements that begin from those which a new one has.
pub(super) fn grants(definition: &str, owner: &str) -> Vec<PostgresGrant> {
    let grant = |to: Option<&str>, privilege: &str, grantable| PostgresGrant {
        to: to.map(str::to_owned),
        privilege: privilege.to_owned(),
        grantable,
    };
    let mut held = vec![grant(None, "CONNECT", false), grant(None, "TEMPORARY", false)];
    held.extend(ALL.map(|privilege| grant(Some(owner), privilege, false)));
    for words in statements(definition) {
        let Some(on) = words.iter().position(|word| word.is("on")) else { continue };
        let Some(at) = words.iter().position(|word| word.is("to") || word.is("from")) else { continue };
        let Some(name) = words.get(at + 1) else { continue };
        let to = (!name.is("public")).then(|| name.value());
        let named = words[1..on].iter().map(|word| word.value().to_ascii_uppercase());
        let privileges: Vec<String> = named
            .flat_map(|word| match word.as_str() {
                "ALL" => ALL.map(str::to_owned).to_vec(),
                "TEMP" => vec!["TEMPORARY".to_owned()],
                _ if ALL.contains(&word.as_str()) => vec![word],
                _ => Vec::new(),
            })
            .collect();
        let grantable = words[at..].iter().any(|word| word.is("grant"));
        let only_the_option = words[..on].windows(2).any(|two| two[0].is("grant") && two[1].is("option"));
        for privilege in privileges {
            let same = |one: &PostgresGrant| one.to == to && one.privilege == privilege;
            if words[0].is("grant") {
                held.retain(|one| !same(one));
                held.push(PostgresGrant { to: to.clone(), privilege, grantable });
            } else if only_the_option {
                held.iter_mut().filter(|one| same(one)).for_each(|one| one.grantable = false);
            } else {
                held.retain(|one| !same(one));
            }
        }
    }
    held.sort_by(|one, other| (&one.to, &one.privilege).cmp(&(&other.to, &other.privilege)));
    held
}

/// What can be granted on a database.
const ALL: [&str; 3] = super::dress::PRIVILEGES;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_of_a_database_are_read_whatever_its_name_is() {
        let found = options(
            "CREATE DATABASE \"a = 'b'; c\" WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = icu LOCALE = 'C.UTF-8' ICU_LOCALE = 'de-AT' TABLESPACE = \"fast one\";\n",
        );
        let of = |name: &str| found.get(name).map(String::as_str);
        assert_eq!((of("ENCODING"), of("LOCALE"), of("ICU_LOCALE")), (Some("UTF8"), Some("C.UTF-8"), Some("de-AT")));
        assert_eq!((of("LOCALE_PROVIDER"), of("TABLESPACE")), (Some("icu"), Some("fast one")));
    }

    #[test]
    fn a_partition_is_known_by_the_statement_that_attaches_it() {
        let path = |schema: &str, name: &str| (schema.to_owned(), name.to_owned());
        let found = partitions(
            "CREATE TABLE public.new (at date);\nALTER TABLE ONLY \"my only\".events ATTACH PARTITION public.new FOR VALUES FROM ('2025') TO ('2026');\n",
        );
        assert_eq!(found, [(path("public", "new"), path("my only", "events"))]);
        let found =
            partitions("CREATE TABLE public.old PARTITION OF public.events\nFOR VALUES IN (1)\nPARTITION BY LIST (b);");
        assert_eq!(found, [(path("public", "old"), path("public", "events"))]);
        assert!(is_partitioned("CREATE TABLE public.events (\n    at date\n)\nPARTITION BY RANGE (at);\n"));
        assert!(!is_partitioned("CREATE TABLE public.\"PARTITION BY\" (a text DEFAULT 'PARTITION BY'::text);\n"));
        assert!(partitions("ALTER TABLE ONLY public.a ADD CONSTRAINT b CHECK (c = 'ATTACH PARTITION');").is_empty());
    }

    #[test]
    fn settings_limits_and_comments_are_read_as_the_server_has_them() {
        let found = properties(
            "ALTER DATABASE clinic SET search_path TO 'app', 'My \"own\"', 'public';\nALTER ROLE \"a b\" IN DATABASE clinic SET \"app.note\" TO E'it''s; \\\\ here';\nALTER DATABASE clinic CONNECTION LIMIT = 7;\nALTER DATABASE clinic IS_TEMPLATE = true;\n",
        );
        let of = |role: Option<&str>, name: &str, value: &str| PostgresSetting {
            role: role.map(str::to_owned),
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let settings =
            [of(None, "search_path", "app, \"My \"\"own\"\"\", public"), of(Some("a b"), "app.note", "it's; \\ here")];
        assert_eq!(found.settings, settings);
        assert_eq!((found.connection_limit, found.is_template), (Some(7), true));
        assert_eq!(comment("COMMENT ON DATABASE clinic IS 'it''s IS';").as_deref(), Some("it's IS"));
    }

    #[test]
    fn grants_begin_from_those_that_a_new_database_has() {
        let words = |held: Vec<PostgresGrant>| {
            let one = |grant: PostgresGrant| {
                let to = grant.to.unwrap_or_else(|| "public".to_owned());
                format!("{to} {}{}", grant.privilege, if grant.grantable { "*" } else { "" })
            };
            held.into_iter().map(one).collect::<Vec<_>>().join(", ")
        };
        let all = "me CONNECT, me CREATE, me TEMPORARY";
        assert_eq!(words(grants("", "me")), format!("public CONNECT, public TEMPORARY, {all}"));
        let said = "REVOKE CONNECT,TEMPORARY ON DATABASE clinic FROM PUBLIC;\nGRANT CONNECT ON DATABASE clinic TO \"to\" WITH GRANT OPTION;\n";
        assert_eq!(words(grants(said, "me")), format!("{all}, to CONNECT*"));
        assert_eq!(grantees(said), ["to"]);
        let said = "REVOKE ALL ON DATABASE clinic FROM me;\nGRANT TEMPORARY ON DATABASE clinic TO me;";
        assert_eq!(words(grants(said, "me")), "public CONNECT, public TEMPORARY, me TEMPORARY");
        assert_eq!(grantees("GRANT ALL ON TABLE public.\"from\" TO reader;"), ["reader"]);
    }
}
