//! The usual design: lock both accounts in Redis, hand the payment to a worker through RabbitMQ, move the money in
//! one MariaDB transaction, answer through RabbitMQ, unlock.

use crate::payments::{Outcome, Payment, Plan, Played, histogram};
use crate::servers::Servers;
use futures_lite::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use mysql::prelude::Queryable;
use mysql::{Conn, TxOpts};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Where payments wait for a worker.
const QUEUE: &str = "payments";
/// Gives a lock back, but only one's own.
const UNLOCK: &str = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end";

/// Plays a plan; as many workers as clients.
pub fn play(servers: &Servers, plan: &Plan, lock_ttl_ms: u64) -> Result<Played, String> {
    let mut sql = open_sql(servers)?;
    fill(&mut sql, plan)?;
    let runtime = Arc::new(
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?,
    );
    let connection = runtime.block_on(open_broker(servers))?;
    let clients = plan.by_client.len();
    let ready = Arc::new(Barrier::new(clients + 1));
    let mut workers = Vec::new();
    for _ in 0..clients {
        let channel = runtime.block_on(open_channel(&connection))?;
        let sql = open_sql(servers)?;
        let runtime = runtime.clone();
        workers.push(thread::spawn(move || {
            Worker {
                runtime,
                channel,
                sql,
            }
            .work()
        }));
    }
    let mut senders = Vec::new();
    for (number, payments) in plan.by_client.iter().enumerate() {
        let mut client = Client::open(servers, &runtime, &connection, number, lock_ttl_ms)?;
        let (payments, ready) = (payments.clone(), ready.clone());
        senders.push(thread::spawn(move || {
            ready.wait();
            client.pay_all(&payments)
        }));
    }
    ready.wait();
    let started = Instant::now();
    let mut played = Played {
        elapsed: Duration::ZERO,
        latency: histogram(),
        answered: 0,
        settled: 0,
        tried: u64::from(plan.repeats + plan.overdrafts),
        prevented: 0,
    };
    for sender in senders {
        let (latency, settled) = sender.join().map_err(|_| "a client panicked")??;
        played.answered += latency.len();
        played.settled += settled;
        played
            .latency
            .add(latency)
            .map_err(|error| error.to_string())?;
    }
    played.elapsed = started.elapsed();
    runtime.block_on(stop_workers(&connection, workers.len()))?;
    for worker in workers {
        worker.join().map_err(|_| "a worker panicked")??;
    }
    played.prevented = played.tried - spent_twice(&mut sql, plan)?;
    Ok(played)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn open_sql(servers: &Servers) -> Result<Conn, String> {
    let options = mysql::Opts::from_url(&servers.sql()).map_err(text)?;
    Conn::new(options).map_err(|error| format!("cannot reach MariaDB: {error}"))
}

async fn open_broker(servers: &Servers) -> Result<Connection, String> {
    let connection = Connection::connect(&servers.amqp(), ConnectionProperties::default())
        .await
        .map_err(|error| format!("cannot reach RabbitMQ: {error}"))?;
    let channel = connection.create_channel().await.map_err(text)?;
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(QUEUE.into(), durable, FieldTable::default())
        .await
        .map_err(text)?;
    channel
        .queue_purge(QUEUE.into(), QueuePurgeOptions::default())
        .await
        .map_err(text)?;
    Ok(connection)
}

async fn open_channel(connection: &Connection) -> Result<Channel, String> {
    let channel = connection.create_channel().await.map_err(text)?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .map_err(text)?;
    channel
        .basic_qos(1, BasicQosOptions::default())
        .await
        .map_err(text)?;
    Ok(channel)
}

fn fill(sql: &mut Conn, plan: &Plan) -> Result<(), String> {
    for statement in [
        "DROP TABLE IF EXISTS entries",
        "DROP TABLE IF EXISTS payments",
        "DROP TABLE IF EXISTS accounts",
        "CREATE TABLE accounts (id INT UNSIGNED PRIMARY KEY, balance BIGINT NOT NULL) ENGINE=InnoDB",
        "CREATE TABLE payments (id BIGINT UNSIGNED PRIMARY KEY, debtor INT UNSIGNED NOT NULL, \
         creditor INT UNSIGNED NOT NULL, amount BIGINT NOT NULL) ENGINE=InnoDB",
        "CREATE TABLE entries (payment BIGINT UNSIGNED NOT NULL, account INT UNSIGNED NOT NULL, amount BIGINT NOT NULL, \
         KEY (account), KEY (payment)) ENGINE=InnoDB",
    ] {
        sql.query_drop(statement).map_err(text)?;
    }
    let rows = (1..=plan.accounts).map(|id| (id, plan.funds));
    sql.exec_batch("INSERT INTO accounts VALUES (?, ?)", rows)
        .map_err(text)
}

/// Second payments that moved money: accounts that paid twice what they had, and ids with more entries than two.
fn spent_twice(sql: &mut Conn, plan: &Plan) -> Result<u64, String> {
    let overdrawn = format!(
        "SELECT COUNT(*) FROM accounts WHERE balance < 0 AND id >= {}",
        plan.first_victim
    );
    let repeated = "SELECT COUNT(*) FROM (SELECT payment FROM entries GROUP BY payment HAVING COUNT(*) > 2) AS twice";
    let mut count = 0;
    for query in [overdrawn.as_str(), repeated] {
        let found: Option<u64> = sql.query_first(query).map_err(text)?;
        count += found.unwrap_or(0);
    }
    Ok(count)
}

/// One who pays: holds its locks until it has the answer.
struct Client {
    runtime: Arc<Runtime>,
    redis: redis::Connection,
    channel: Channel,
    answers: Consumer,
    reply_to: String,
    token: String,
    lock_ttl_ms: u64,
}

impl Client {
    fn open(
        servers: &Servers,
        runtime: &Arc<Runtime>,
        connection: &Connection,
        number: usize,
        lock_ttl_ms: u64,
    ) -> Result<Client, String> {
        let redis = redis::Client::open(servers.redis())
            .and_then(|client| client.get_connection())
            .map_err(|error| format!("cannot reach Redis: {error}"))?;
        let reply_to = format!("answers-{}-{number}", std::process::id());
        let (channel, answers) = runtime.block_on(async {
            let channel = open_channel(connection).await?;
            let own = QueueDeclareOptions {
                exclusive: true,
                auto_delete: true,
                ..QueueDeclareOptions::default()
            };
            let name = reply_to.as_str();
            channel
                .queue_declare(name.into(), own, FieldTable::default())
                .await
                .map_err(text)?;
            let options = BasicConsumeOptions {
                no_ack: true,
                ..BasicConsumeOptions::default()
            };
            let answers = channel
                .basic_consume(name.into(), "".into(), options, FieldTable::default())
                .await
                .map_err(text)?;
            Ok::<_, String>((channel, answers))
        })?;
        Ok(Client {
            runtime: runtime.clone(),
            redis,
            channel,
            answers,
            reply_to,
            token: format!("client-{number}"),
            lock_ttl_ms,
        })
    }

    fn pay_all(
        &mut self,
        payments: &[Payment],
    ) -> Result<(hdrhistogram::Histogram<u64>, u64), String> {
        let mut latency = histogram();
        let mut settled = 0;
        for payment in payments {
            let started = Instant::now();
            let outcome = self.pay(payment)?;
            latency.saturating_record(started.elapsed().as_nanos() as u64);
            settled += u64::from(outcome == Outcome::Settled);
        }
        Ok((latency, settled))
    }

    fn pay(&mut self, payment: &Payment) -> Result<Outcome, String> {
        // In one order, or two payments between the same accounts wait for each other for ever.
        let first = payment.debtor.min(payment.creditor);
        let second = payment.debtor.max(payment.creditor);
        self.lock(first)?;
        self.lock(second)?;
        let outcome = self.hand_over(payment);
        self.unlock(second)?;
        self.unlock(first)?;
        outcome
    }

    fn lock(&mut self, account: u32) -> Result<(), String> {
        let mut pause = Duration::from_micros(500);
        loop {
            let got: Option<String> = redis::cmd("SET")
                .arg(format!("lock:{account}"))
                .arg(&self.token)
                .arg("NX")
                .arg("PX")
                .arg(self.lock_ttl_ms)
                .query(&mut self.redis)
                .map_err(text)?;
            if got.is_some() {
                return Ok(());
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(8));
        }
    }

    fn unlock(&mut self, account: u32) -> Result<(), String> {
        redis::Script::new(UNLOCK)
            .key(format!("lock:{account}"))
            .arg(&self.token)
            .invoke::<()>(&mut self.redis)
            .map_err(text)
    }

    fn hand_over(&mut self, payment: &Payment) -> Result<Outcome, String> {
        let runtime = self.runtime.clone();
        runtime.block_on(async {
            let persistent = BasicProperties::default()
                .with_delivery_mode(2)
                .with_reply_to(self.reply_to.as_str().into());
            publish(&self.channel, QUEUE, &encode(payment), persistent).await?;
            let answer = self.answers.next().await.ok_or("RabbitMQ hung up")?;
            let answer = answer.map_err(text)?;
            match answer.data.first() {
                Some(0) => Ok(Outcome::Settled),
                Some(1) => Ok(Outcome::Repeat),
                Some(2) => Ok(Outcome::Uncovered),
                _ => Err("an answer that says nothing".to_string()),
            }
        })
    }
}

async fn publish(
    channel: &Channel,
    queue: &str,
    bytes: &[u8],
    properties: BasicProperties,
) -> Result<(), String> {
    let options = BasicPublishOptions::default();
    channel
        .basic_publish("".into(), queue.into(), options, bytes, properties)
        .await
        .map_err(text)?
        .await
        .map_err(text)?;
    Ok(())
}

fn encode(payment: &Payment) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24);
    bytes.extend(payment.id.to_le_bytes());
    bytes.extend(payment.debtor.to_le_bytes());
    bytes.extend(payment.creditor.to_le_bytes());
    bytes.extend(payment.amount.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Payment> {
    Some(Payment {
        id: u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?),
        debtor: u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?),
        creditor: u32::from_le_bytes(bytes.get(12..16)?.try_into().ok()?),
        amount: u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?),
    })
}

/// Takes payments from the broker and moves their money.
struct Worker {
    runtime: Arc<Runtime>,
    channel: Channel,
    sql: Conn,
}

impl Worker {
    fn work(mut self) -> Result<(), String> {
        let runtime = self.runtime.clone();
        let mut payments = runtime
            .block_on(self.channel.basic_consume(
                QUEUE.into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            ))
            .map_err(text)?;
        loop {
            let delivery = runtime
                .block_on(payments.next())
                .ok_or("RabbitMQ hung up")?
                .map_err(text)?;
            let payment = decode(&delivery.data);
            let code = match &payment {
                None => None,
                Some(payment) => Some(settle(&mut self.sql, payment)? as u8),
            };
            runtime.block_on(async {
                if let (Some(code), Some(reply_to)) = (code, delivery.properties.reply_to()) {
                    let plain = BasicProperties::default();
                    publish(&self.channel, reply_to.as_str(), &[code], plain).await?;
                }
                delivery.ack(BasicAckOptions::default()).await.map_err(text)
            })?;
            if payment.is_none() {
                // An empty message: the run is over.
                return Ok(());
            }
        }
    }
}

async fn stop_workers(connection: &Connection, count: usize) -> Result<(), String> {
    let channel = open_channel(connection).await?;
    for _ in 0..count {
        publish(&channel, QUEUE, &[], BasicProperties::default()).await?;
    }
    Ok(())
}

/// One transaction: rows locked in one order, the id unique, the balance checked, two entries written.
fn settle(sql: &mut Conn, payment: &Payment) -> Result<Outcome, String> {
    loop {
        match try_settle(sql, payment) {
            Ok(outcome) => return Ok(outcome),
            // Duplicate key; deadlock and lock wait timeout are tried again.
            Err(mysql::Error::MySqlError(error)) if error.code == 1062 => {
                return Ok(Outcome::Repeat);
            }
            Err(mysql::Error::MySqlError(error)) if matches!(error.code, 1213 | 1205) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn try_settle(sql: &mut Conn, payment: &Payment) -> Result<Outcome, mysql::Error> {
    let mut work = sql.start_transaction(TxOpts::default())?;
    work.exec_drop(
        "INSERT INTO payments VALUES (?, ?, ?, ?)",
        (payment.id, payment.debtor, payment.creditor, payment.amount),
    )?;
    let rows: Vec<(u32, i64)> = work.exec(
        "SELECT id, balance FROM accounts WHERE id IN (?, ?) ORDER BY id FOR UPDATE",
        (payment.debtor, payment.creditor),
    )?;
    let balance = rows.iter().find(|row| row.0 == payment.debtor);
    if balance.is_none_or(|row| row.1 < payment.amount as i64) {
        work.rollback()?;
        return Ok(Outcome::Uncovered);
    }
    for (account, amount) in [
        (payment.debtor, -(payment.amount as i64)),
        (payment.creditor, payment.amount as i64),
    ] {
        work.exec_drop(
            "UPDATE accounts SET balance = balance + ? WHERE id = ?",
            (amount, account),
        )?;
        work.exec_drop(
            "INSERT INTO entries VALUES (?, ?, ?)",
            (payment.id, account, amount),
        )?;
    }
    work.commit()?;
    Ok(Outcome::Settled)
}

/// What a lapsed lock lets through.
pub struct Lapsed {
    /// Times a holder paused for longer than its lock lived.
    pub tried: u32,
    /// Times the account ended with less than both payments took.
    pub spent_twice: u32,
}

/// The race that no lock service closes by itself: a holder checks the balance, pauses (a garbage collection, a
/// page fault, a slow disk) until its lock has lapsed, and writes the balance it computed. The lock is trusted, as
/// in most descriptions of the design: no row is locked in the database.
pub fn lapse(servers: &Servers, pauses: u32) -> Result<Lapsed, String> {
    const TTL: Duration = Duration::from_millis(30);
    let mut spent_twice = 0;
    let mut sql = open_sql(servers)?;
    let all: i64 = 1_000;
    for _ in 0..pauses {
        sql.query_drop(format!("UPDATE accounts SET balance = {all} WHERE id = 1"))
            .map_err(text)?;
        let paid = [TTL * 2, Duration::ZERO].map(|pause| {
            let servers = (servers.redis(), servers.sql());
            let holder = thread::spawn(move || spend_all(&servers, pause, TTL, all));
            // The second comes while the first holds the lock.
            thread::sleep(Duration::from_millis(5));
            holder
        });
        let mut paid_in_all = 0;
        for holder in paid {
            paid_in_all += holder.join().map_err(|_| "a holder panicked")??;
        }
        spent_twice += u32::from(paid_in_all > all);
    }
    Ok(Lapsed {
        tried: pauses,
        spent_twice,
    })
}

/// Spends all that account 1 has, under a lock, with a pause between the check and the write.
fn spend_all(
    (redis, sql): &(String, String),
    pause: Duration,
    ttl: Duration,
    amount: i64,
) -> Result<i64, String> {
    let mut redis = redis::Client::open(redis.as_str())
        .and_then(|client| client.get_connection())
        .map_err(text)?;
    let mut sql = Conn::new(mysql::Opts::from_url(sql).map_err(text)?).map_err(text)?;
    let token = format!("{:?}", thread::current().id());
    loop {
        let got: Option<String> = redis::cmd("SET")
            .arg("lock:lapsing")
            .arg(&token)
            .arg("NX")
            .arg("PX")
            .arg(ttl.as_millis() as u64)
            .query(&mut redis)
            .map_err(text)?;
        if got.is_some() {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    let balance: Option<i64> = sql
        .query_first("SELECT balance FROM accounts WHERE id = 1")
        .map_err(text)?;
    let balance = balance.unwrap_or(0);
    thread::sleep(pause);
    let paid = if balance >= amount {
        sql.exec_drop(
            "UPDATE accounts SET balance = ? WHERE id = 1",
            (balance - amount,),
        )
        .map_err(text)?;
        amount
    } else {
        0
    };
    redis::Script::new(UNLOCK)
        .key("lock:lapsing")
        .arg(&token)
        .invoke::<()>(&mut redis)
        .map_err(text)?;
    Ok(paid)
}
