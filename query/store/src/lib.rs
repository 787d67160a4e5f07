//! ClickHouse schema, migrations, rows and statements.
