//! What servers and their programs say on failure, without the rows that they quote: those are patients'.

/// How a line begins that is not the rest of a quoted value.
const BEGINNINGS: [&str; 11] = [
    "pg_dump:",
    "pg_dumpall:",
    "pg_restore:",
    "psql:",
    "ERROR:",
    "DETAIL:",
    "HINT:",
    "CONTEXT:",
    "STATEMENT:",
    "LINE ",
    "Command was:",
];

/// The words with every quoted row cut: `COPY patient, line 1`, `Key (ssn)`, `Failing row`.
///
/// A value may hold newlines, so that what follows a cut counts only once a line begins as such words do.
pub(crate) fn without_rows(words: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut cutting = false;
    for line in words.lines() {
        let begins = BEGINNINGS.iter().any(|beginning| line.trim_start().starts_with(beginning));
        if cutting && !begins {
            continue;
        }
        let cut = cut(line);
        cutting = cut.is_some();
        kept.push(cut.unwrap_or(line));
    }
    kept.join("\n")
}

/// What may be said of a line that quotes a row; `None` when it quotes none.
fn cut(line: &str) -> Option<&str> {
    let before = |mark: &str, from: usize| line[from..].find(mark).map(|at| &line[..from + at]);
    if let Some(at) = line.find("COPY ").filter(|_| line.contains(", line ")) {
        // `COPY patient, line 1, column id: "x"` and `COPY patient, line 1: "1\t123-45-6789"`.
        return before(": \"", at);
    }
    if let Some(at) = line.find("Key (") {
        return before(")=(", at).map(|kept| &line[..=kept.len()]);
    }
    line.find("Failing row contains").map(|at| &line[..at + "Failing row".len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_from_what_a_server_says() {
        for (words, kept) in [
            (
                "pg_restore: error: COPY failed for table \"patient\": ERROR:  bad\nCONTEXT:  COPY patient, line 1: \"1\\t123\"",
                "pg_restore: error: COPY failed for table \"patient\": ERROR:  bad\nCONTEXT:  COPY patient, line 1",
            ),
            ("Key (ssn)=(123-45) already exists.", "Key (ssn)"),
            ("Failing row contains (1, 123-45\nsecret, null).", "Failing row"),
            ("DETAIL:  Key (a, b)=(1,\n2) is duplicated.\nHINT:  Try.", "DETAIL:  Key (a, b)\nHINT:  Try."),
            ("CONTEXT:  COPY t, line 3, column id: \"x\"", "CONTEXT:  COPY t, line 3, column id"),
            ("permission denied for table t\nmore", "permission denied for table t\nmore"),
        ] {
            assert_eq!(without_rows(words), kept);
        }
    }
}
