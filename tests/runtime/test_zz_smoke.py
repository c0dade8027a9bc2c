from pathlib import Path
import pytest, trio, time
from trio.testing import MockClock
from opscore.runtime import messages
from opscore.runtime.agent import AgentActor
from opscore.runtime.session import SessionActor
from opscore.runtime.dispatcher import DispatcherActor
from opscore.runtime.timers import TimersActor
from opscore.runtime.journal import JournalActor
from opscore.runtime.delivery import *
from tests.runtime.world import *

CASES=[(AgentActor, m, a) for m in AgentActor.handler_table for a in (False,True)]+[(SessionActor, m, a) for m in SessionActor.handler_table for a in (False,True)]+[(DispatcherActor, m, a) for m in DispatcherActor.handler_table for a in (False,True)]+[(TimersActor, m, a) for m in TimersActor.handler_table for a in (False,True)]+[(JournalActor, m, a) for m in JournalActor.handler_table for a in (False,True)]
@pytest.mark.parametrize("actor,message,after", CASES, ids=lambda x: getattr(x,"__name__",str(x)))
async def test_crash(tmp_path, autojump_clock, monkeypatch, actor, message, after):
    world=World(tmp_path, look=check_rows)
    got={}
    def answer(a):
        n=got[a.task_id]=got.get(a.task_id,0)+1
        if n==1: return Answered(status=503)
        if n==2: return Answered(status=400)
        return Answered(status=200, body={"status":"completed","result":n})
    world.messenger.answer=answer
    strike=Strike(monkeypatch, actor, message, after=after)
    async with world.node() as node:
        await join(node,"a","test_capability"); await hire(node,"b","another_capability")
        strike.armed=True
        t0=trio.current_time()
        sessions=[]
        for _ in range(3):
            try: sessions.append(await node.trigger(SAMPLE))
            except Exception as e: print("trigger", repr(e))
        sessions=node.sessions(limit=100).items
        for s in sessions:
            r=await ended(node,s,within_s=10000)
            assert r.status=="completed"
        print("took", trio.current_time()-t0, "struck", len(strike.struck), len(sessions))
        await quiet()
        assert node.statistics()["open_sessions"]==0
        assert trio.current_time()-t0<60
