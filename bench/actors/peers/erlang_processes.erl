%% The Erlang side of erlang_processes.py: an actor is a gen_server; tell is cast, ask is call.
%% Prints one line of JSON when a workload is done.

-module(erlang_processes).
-behaviour(gen_server).
-export([main/2, init/1, handle_call/3, handle_cast/2]).

%% A counter's state is its count; a node's and a sender's is a tuple.
init(State) -> {ok, State}.

handle_call({add, Amount}, _From, Count) -> {reply, Count + Amount, Count + Amount};
handle_call(get_count, _From, Count) when is_integer(Count) -> {reply, Count, Count};
handle_call(get_count, _From, {node, _Following, _Laps, _Main, Passed} = Node) -> {reply, Passed, Node};
handle_call({connect, Following}, _From, {node, _, Laps, Main, Passed}) ->
    {reply, ok, {node, Following, Laps, Main, Passed}};
handle_call({flood, Messages}, _From, {sender, Counter} = Sender) ->
    flood(Counter, Messages),
    {reply, ok, Sender}.

handle_cast({add, Amount}, Count) -> {noreply, Count + Amount};
handle_cast({add, Amount, Main}, Count) ->
    Main ! handled,
    {noreply, Count + Amount};
handle_cast(token, {node, Following, Laps, Main, Passed}) when Passed + 1 =:= Laps ->
    Main ! ended,
    {noreply, {node, Following, Laps, Main, Passed + 1}};
handle_cast(token, {node, Following, Laps, Main, Passed}) ->
    gen_server:cast(Following, token),
    {noreply, {node, Following, Laps, Main, Passed + 1}}.

main(Workload, Sizes) ->
    workload(Workload, Sizes),
    halt(0).

workload(tell, [Messages]) ->
    Counter = start(0),
    timed(fun() -> flood(Counter, Messages), gen_server:call(Counter, get_count, infinity) end);
workload(ask, [Asks, Askers]) ->
    Counter = start(0),
    Share = Asks div Askers,
    timed(fun() ->
        in_parallel(Askers, fun() -> repeat(Share, fun() -> gen_server:call(Counter, {add, 1}, infinity) end) end),
        gen_server:call(Counter, get_count, infinity)
    end);
workload(ring, [Laps, Size]) ->
    Nodes = [start({node, none, Laps + 1, self(), 0}) || _ <- lists:seq(2, Size)] ++
            [start({node, none, Laps, self(), 0})],
    [gen_server:call(Node, {connect, Following}) ||
        {Node, Following} <- lists:zip(Nodes, tl(Nodes) ++ [hd(Nodes)])],
    timed(fun() ->
        gen_server:cast(hd(Nodes), token),
        receive ended -> ok end,
        fun() -> lists:sum([gen_server:call(Node, get_count) || Node <- Nodes]) end
    end);
workload(fan_in, [Messages, Senders]) ->
    Counter = start(0),
    Pids = [start({sender, Counter}) || _ <- lists:seq(1, Senders)],
    timed(fun() ->
        Requests = [gen_server:send_request(Pid, {flood, Messages div Senders}) || Pid <- Pids],
        [{reply, ok} = gen_server:receive_response(Request, infinity) || Request <- Requests],
        gen_server:call(Counter, get_count, infinity)
    end);
workload(spawn, [Actors]) ->
    timed(fun() ->
        repeat(Actors, fun() -> gen_server:cast(start(0), {add, 1, self()}) end),
        handled(Actors)
    end);
workload(idle, [Actors, Traced]) ->
    Before = memory(Traced),
    Pids = [start(0) || _ <- lists:seq(1, Actors)],
    Started = memory(Traced) - Before,
    [gen_server:cast(Pid, {add, 1, self()}) || Pid <- Pids],
    Handled = handled(Actors),
    io:format("{\"started_bytes\": ~b, \"handled_bytes\": ~b, \"handled\": ~b}~n",
              [Started, memory(Traced) - Before, Handled]).

start(State) ->
    {ok, Pid} = gen_server:start_link(?MODULE, State, []),
    Pid.

flood(Counter, Messages) -> repeat(Messages, fun() -> gen_server:cast(Counter, {add, 1}) end).

repeat(0, _Fun) -> ok;
repeat(Times, Fun) -> Fun(), repeat(Times - 1, Fun).

in_parallel(1, Fun) -> Fun();
in_parallel(Processes, Fun) ->
    Main = self(),
    repeat(Processes, fun() -> spawn_link(fun() -> Fun(), Main ! handled end) end),
    handled(Processes).

handled(Expected) -> handled(Expected, 0).

handled(Expected, Expected) -> Expected;
handled(Expected, Count) -> receive handled -> handled(Expected, Count + 1) end.

%% What is handled may be told by a fun, called after the clock has stopped.
timed(Fun) ->
    Started = erlang:monotonic_time(nanosecond),
    Result = Fun(),
    Seconds = (erlang:monotonic_time(nanosecond) - Started) / 1.0e9,
    Handled = if is_function(Result) -> Result(); true -> Result end,
    io:format("{\"seconds\": ~.9f, \"handled\": ~b}~n", [Seconds, Handled]).

%% As footprint.py: the emulator's own account of its memory, or the resident set.
memory(1) -> erlang:memory(total);
memory(0) ->
    {ok, Statm} = file:read_file("/proc/self/statm"),
    list_to_integer(binary_to_list(lists:nth(2, binary:split(Statm, <<" ">>, [global])))) * 4096.
