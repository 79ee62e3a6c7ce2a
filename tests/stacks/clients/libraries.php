<?php
// `php libraries.php LIBRARY plain|cluster PORT PREFIX`: a client library in PHP does SET, GET, INCR, HSET, HGET, a pipeline.
const PIPED = 10;
[, $name, $mode, $port, $prefix] = $argv;

function expect($wanted, $got): void
{
    if ($wanted !== $got) {
        throw new Exception("wanted " . var_export($wanted, true) . ", got " . var_export($got, true));
    }
}

function redis(int $port, bool $cluster): array
{
    if ($cluster) {
        return [new RedisCluster(null, ["127.0.0.1:$port"]), null];
    }
    $client = new Redis();
    $client->connect("127.0.0.1", $port);
    return [$client, fn () => $client->pipeline()];
}

function predis(int $port, bool $cluster): array
{
    require_once "Predis/autoload.php";
    $address = "tcp://127.0.0.1:$port";
    $client = $cluster ? new Predis\Client([$address], ["cluster" => "redis"]) : new Predis\Client($address);
    return [$client, fn () => $client->pipeline()];
}

[$client, $pipeline] = $name((int) $port, $mode === "cluster");
$client->set("$prefix:string", "value");
expect("value", $client->get("$prefix:string"));
expect(1, $client->incr("$prefix:counter"));
expect(2, $client->incr("$prefix:counter"));
$client->hset("$prefix:hash", "field", "value");
expect("value", $client->hget("$prefix:hash", "field"));
if ($pipeline) {
    $batch = $pipeline();
    for ($sent = 0; $sent < PIPED; $sent++) {
        $batch->incr("$prefix:piped");
    }
    expect(range(1, PIPED), $name === "redis" ? $batch->exec() : $batch->execute());
}
echo $pipeline ? "ok piped\n" : "ok\n";
