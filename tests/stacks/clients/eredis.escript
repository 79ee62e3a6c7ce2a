#!/usr/bin/env escript
%% `escript eredis.escript eredis plain PORT PREFIX`: eredis does SET, GET, INCR, HSET, HGET, a pipeline.
main([_Library, _Mode, Port, Prefix]) ->
    {ok, Client} = eredis:start_link("127.0.0.1", list_to_integer(Port)),
    Key = fun(Name) -> Prefix ++ ":" ++ Name end,
    {ok, <<"OK">>} = eredis:q(Client, ["SET", Key("string"), "value"]),
    {ok, <<"value">>} = eredis:q(Client, ["GET", Key("string")]),
    {ok, <<"1">>} = eredis:q(Client, ["INCR", Key("counter")]),
    {ok, <<"2">>} = eredis:q(Client, ["INCR", Key("counter")]),
    {ok, <<"1">>} = eredis:q(Client, ["HSET", Key("hash"), "field", "value"]),
    {ok, <<"value">>} = eredis:q(Client, ["HGET", Key("hash"), "field"]),
    Wanted = [{ok, integer_to_binary(Place)} || Place <- lists:seq(1, 10)],
    Wanted = eredis:qp(Client, [["INCR", Key("piped")] || _ <- Wanted]),
    io:format("ok piped~n").
