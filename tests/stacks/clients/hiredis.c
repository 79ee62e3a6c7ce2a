/* `hiredis hiredis plain PORT PREFIX`: hiredis does SET, GET, INCR, HSET, HGET, a pipeline. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIPED = 10 };

static void fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static void expect_text(redisReply *reply, const char *wanted) {
    if (!reply || reply->type == REDIS_REPLY_ERROR || !reply->str || strcmp(reply->str, wanted)) fail(reply && reply->str ? reply->str : wanted);
    freeReplyObject(reply);
}

static void expect_number(redisReply *reply, long long wanted) {
    if (!reply || reply->type != REDIS_REPLY_INTEGER || reply->integer != wanted) fail(reply && reply->str ? reply->str : "a wrong number");
    freeReplyObject(reply);
}

int main(int count, char **words) {
    if (count != 5) fail("hiredis hiredis plain PORT PREFIX");
    const char *prefix = words[4];
    redisContext *client = redisConnect("127.0.0.1", atoi(words[3]));
    if (!client || client->err) fail(client ? client->errstr : "no memory");
    expect_text(redisCommand(client, "SET %s:string %s", prefix, "value"), "OK");
    expect_text(redisCommand(client, "GET %s:string", prefix), "value");
    expect_number(redisCommand(client, "INCR %s:counter", prefix), 1);
    expect_number(redisCommand(client, "INCR %s:counter", prefix), 2);
    expect_number(redisCommand(client, "HSET %s:hash field value", prefix), 1);
    expect_text(redisCommand(client, "HGET %s:hash field", prefix), "value");
    for (int sent = 0; sent < PIPED; sent++) redisAppendCommand(client, "INCR %s:piped", prefix);
    for (int place = 1; place <= PIPED; place++) {
        void *reply = NULL;
        redisGetReply(client, &reply);
        expect_number(reply, place);
    }
    redisFree(client);
    puts("ok piped");
    return 0;
}
