//! Numbers of up to 128 bits in SQLite: an INTEGER where it fits 63 bits, else 16 bytes, big end
//! first. SQLite sorts every integer before every blob, so order is kept.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Value, ValueRef};

/// An unsigned number of up to 128 bits as a column holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wide(pub(super) u128);

impl ToSql for Wide {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Owned(match i64::try_from(self.0) {
            Ok(small) => Value::Integer(small),
            Err(_) => Value::Blob(self.0.to_be_bytes().to_vec()),
        }))
    }
}

impl FromSql for Wide {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Wide> {
        match value {
            ValueRef::Integer(small) => u128::try_from(small)
                .map(Wide)
                .map_err(|_| FromSqlError::OutOfRange(small)),
            ValueRef::Blob(bytes) => bytes
                .try_into()
                .map(|bytes| Wide(u128::from_be_bytes(bytes)))
                .map_err(|_| FromSqlError::InvalidType),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}
