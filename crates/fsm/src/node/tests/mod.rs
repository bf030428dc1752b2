//! The keeper's brain against a small fake of Postgres, exhaustively over orders and situations.

mod accept;
mod cases;
mod fetch;
mod lease;
mod maintenance;
mod table;
mod world;
