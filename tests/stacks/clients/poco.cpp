// `poco poco plain PORT PREFIX`: Poco::Redis does SET, GET, INCR, HSET, HGET, a pipeline.
#include <Poco/Redis/Client.h>
#include <Poco/Redis/Command.h>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

using Poco::Int64;
using Poco::Redis::BulkString;
using Poco::Redis::Command;

template <typename T>
void expect(const T &wanted, const T &got) {
    if (wanted != got) throw std::runtime_error("a wrong answer");
}

int main(int, char **words) try {
    const int piped = 10;
    const std::string prefix = words[4];
    Poco::Redis::Client client("127.0.0.1", std::stoi(words[3]));
    expect<std::string>("OK", client.execute<std::string>(Command::set(prefix + ":string", "value")));
    expect<std::string>("value", client.execute<BulkString>(Command::get(prefix + ":string")).value());
    expect<Int64>(1, client.execute<Int64>(Command::incr(prefix + ":counter")));
    expect<Int64>(2, client.execute<Int64>(Command::incr(prefix + ":counter")));
    expect<Int64>(1, client.execute<Int64>(Command::hset(prefix + ":hash", "field", "value")));
    expect<std::string>("value", client.execute<BulkString>(Command::hget(prefix + ":hash", "field")).value());
    const std::vector<Poco::Redis::Array> commands(piped, Command::incr(prefix + ":piped"));
    const auto answers = client.sendCommands(commands);
    for (int place = 0; place < piped; place++) expect<Int64>(place + 1, answers.get<Int64>(place));
    std::cout << "ok piped" << std::endl;
} catch (const Poco::Exception &error) {
    std::cerr << error.displayText() << std::endl;
    return 1;
}
