//! A record's values in the server's text format, as `COPY FROM` reads them.

use bytes::BytesMut;

use crate::database::source::Field;

/// Writes a value as the server's text format has it
/// (<https://www.postgresql.org/docs/current/sql-copy.html>, "Text Format").
pub(super) fn write(to: &mut BytesMut, field: &Field<'_>) -> Option<()> {
    match field {
        Field::Null => to.extend_from_slice(b"\\N"),
        Field::Boolean(value) => to.extend_from_slice(if *value { b"t" } else { b"f" }),
        Field::Number(text) => to.extend_from_slice(text.as_bytes()),
        Field::Text(text) => escaped(to, text.as_bytes()),
        Field::Bytes(bytes) => escaped(to, bytes),
        Field::Integer(_) | Field::Real(_) | Field::Blob(_) => return None,
    }
    Some(())
}

fn escaped(to: &mut BytesMut, mut bytes: &[u8]) {
    let special = |byte: &u8| matches!(byte, b'\\' | b'\n' | b'\r' | b'\t');
    while let Some(at) = bytes.iter().position(special) {
        to.extend_from_slice(&bytes[..at]);
        let letter = match bytes[at] {
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            other => other,
        };
        to.extend_from_slice(&[b'\\', letter]);
        bytes = &bytes[at + 1..];
    }
    to.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::super::rows;
    use super::*;

    #[test]
    fn what_is_written_for_the_server_is_read_back_by_the_export() {
        let text = "a\tb\nc\rd\\e\\N\u{1}\u{7f}\"";
        let mut written = BytesMut::new();
        write(&mut written, &Field::Text(text.into())).expect("text");
        assert!(!written.contains(&b'\n') && !written.contains(&b'\t'));
        let mut read = Vec::new();
        rows::unescape(&written, &mut read);
        assert_eq!(read, text.as_bytes());
    }
}
