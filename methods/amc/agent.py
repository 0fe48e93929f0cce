"""DDPG from stable-baselines3, explored and trained as AMC does. Needs the extra amc.

What differs from the published agent, because in a hundred or a few hundred episodes it found less than chance did:
rewards are divided by their deviation, the actor begins at uniform pruning instead of at random weights, by default the
final reward that every transition gets is not added up over an episode once more (``discount`` 0; published: 1), after
every episode the actor is drawn a little towards the best one so far (``imitation``; Oh et al. 2018), warm-up draws
around uniform pruning (``warmup_deviation``; published: anything), and later only some decisions of an episode are
explored (``explored``; published: all): among dozens of groups, changes of all at once hide what each of them did.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from stable_baselines3 import DDPG
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import Logger

from .environment import PruningEnv
from .parameters import Parameters

BATCH_SIZE = 64
HIDDEN = (300, 300)
ACTOR_RATE, CRITIC_RATE = 1e-4, 1e-3
TAU = 0.01
BASELINE_RATE = 0.5
IMITATION_RATE = 1e-3
FIRST_IMITATION = 300  # steps, when the warm-up ends
SLOWEST_FALL = 0.1, 0.6  # by default exploration falls to a tenth within this share of the learning episodes
SMALL_WEIGHT = 3e-3  # of the actor's last layer at first (Lillicrap et al. 2016)

Transition = tuple[Any, Any, Any, bool]
"""State, next state, action scaled to [-1, 1], and whether the episode ends; arrays with a leading axis of one."""


class BaselineBuffer(ReplayBuffer):  # type: ignore[misc]
    """Replay buffer that gives rewards minus a moving mean of the batches it has given, in units of their deviation."""

    mean: float | None = None

    def sample(self, batch_size: int, env: Any = None) -> Any:
        """Random transitions; the baseline is the first batch's mean, then moves half of the way to each one's."""
        batch = super().sample(batch_size, env)
        latest = float(batch.rewards.mean())
        self.mean = latest if self.mean is None else self.mean + BASELINE_RATE * (latest - self.mean)
        held = self.rewards if self.full else self.rewards[: self.pos]
        return batch._replace(rewards=(batch.rewards - self.mean) / (float(held.std()) + 1e-8))


class Agent(DDPG):  # type: ignore[misc]
    """DDPG with a learning rate each for actor and critic, both constant."""

    def _update_learning_rate(self, _optimizers: Any) -> None:
        for optimizer, rate in ((self.actor.optimizer, ACTOR_RATE), (self.critic.optimizer, CRITIC_RATE)):
            for group in optimizer.param_groups:
                group["lr"] = rate


@dataclass(frozen=True)
class Schedule:
    """How long the agent plays, explores and learns.

    Attributes
    ----------
    method
        What was asked for.
    episodes
        Episodes to play; the first of them, in the method's share, without asking the agent.
    first_share
        Share to keep that the untrained actor asks for everywhere, and the warm-up around, in (0, 1).
    """

    method: Parameters
    episodes: int
    first_share: float

    @property
    def warmup(self) -> int:
        """Episodes of the warm-up."""
        return int(self.method.warmup_share * self.episodes)

    def deviation(self, episode: int) -> float | None:
        """Deviation of the exploration, or None during the warm-up."""
        if episode < self.warmup:
            return None
        least, share = SLOWEST_FALL
        decay = self.method.decay or least ** (1.0 / max(share * (self.episodes - self.warmup), 1.0))
        return float(max(self.method.deviation * decay ** (episode - self.warmup), self.method.least_deviation))

    def warmup_action(self, rng: np.random.Generator) -> float:
        """Share to keep that the warm-up asks for."""
        if self.method.warmup_deviation is None:
            return float(rng.random())
        return truncated_normal(self.first_share, self.method.warmup_deviation, rng)

    def explores(self, n_groups: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Which decisions of an episode are explored, shape (n_groups,)."""
        chosen = rng.random(n_groups) < self.method.explored
        chosen[rng.integers(n_groups)] |= not chosen.any()
        return chosen


def search(env: PruningEnv, schedule: Schedule, *, seed: int, on_episode: Callable[[int, float], None]) -> None:
    """Play and learn. The environment sees every strategy; whoever made it remembers the best.

    Every transition of an episode gets its final reward, and one gradient step follows each that is stored after the
    warm-up. Global random state is left as it was.

    Parameters
    ----------
    on_episode
        Called with the number of the episode and its reward; it or the environment may end the search by an exception.
    """
    rng = np.random.default_rng([seed, 0x414D43])
    with _isolated(seed):
        agent = Agent(
            "MlpPolicy",
            env,
            buffer_size=100 * env.n_groups,
            batch_size=BATCH_SIZE,
            tau=TAU,
            gamma=schedule.method.discount,
            replay_buffer_class=BaselineBuffer,
            policy_kwargs={"net_arch": list(HIDDEN)},
            seed=seed,
            device="cpu",
        )
        agent.set_logger(Logger(folder=None, output_formats=[]))
        _begin_at(agent, schedule.first_share)
        best = _Best(agent)
        for episode in range(schedule.episodes):
            deviation = schedule.deviation(episode)
            learns = deviation is not None
            if schedule.method.imitation and learns:
                best.imitate(FIRST_IMITATION if episode == schedule.warmup else schedule.method.imitation)
            transitions, reward = _play(env, agent, schedule, deviation, rng)
            best.see(transitions, reward)
            for before, after, action, done in transitions:
                agent.replay_buffer.add(before, after, action, np.array([reward]), np.array([done]), [{}])
                if learns:
                    agent.train(gradient_steps=1, batch_size=BATCH_SIZE)
            on_episode(episode, reward)


class _Best:
    """The best episode so far, which the actor can be drawn towards."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._reward = -np.inf
        self._optimizer = torch.optim.Adam(agent.actor.parameters(), IMITATION_RATE)
        self._states, self._actions = torch.empty(0), torch.empty(0)

    def see(self, transitions: list[Transition], reward: float) -> None:
        """Remember an episode when it is better than all before."""
        if reward > self._reward:
            self._reward = reward
            self._states = torch.as_tensor(np.concatenate([before for before, _, _, _ in transitions]))
            self._actions = torch.as_tensor(np.concatenate([action for _, _, action, _ in transitions]))

    def imitate(self, steps: int) -> None:
        """Take gradient steps of the actor towards the best episode's actions."""
        if not len(self._states):
            return
        for _ in range(steps):
            self._optimizer.zero_grad()
            loss = (self._agent.actor(self._states) - self._actions).square().mean()
            loss.backward()
            self._optimizer.step()


def _play(
    env: PruningEnv, agent: Agent, schedule: Schedule, deviation: float | None, rng: np.random.Generator
) -> tuple[list[Transition], float]:
    """Transitions of an episode (states, the agent's action scaled to [-1, 1], end) and its final reward.

    What the agent asked for is learned from, not what clipping made of it: beyond the clip the reward is then flat, and
    known to be, where executed actions would leave the critic to guess.
    """
    state, _ = env.reset()
    transitions: list[Transition] = []
    done, reward = False, 0.0
    explores = schedule.explores(env.n_groups, rng)
    while not done:
        if deviation is None:
            share = schedule.warmup_action(rng)
        else:
            share = float(agent.predict(state, deterministic=True)[0][0])
            if explores[len(transitions)]:
                share = truncated_normal(share, deviation, rng)
        following, reward, done, _, _ = env.step(np.array([share]))
        action = np.array([[2.0 * share - 1.0]], dtype=np.float32)
        transitions.append((state[None], following[None], action, done))
        state = following
    return transitions, reward


def _begin_at(agent: Agent, share: float) -> None:
    """Make the actor ask for (nearly) the same share in every state."""
    last = agent.actor.mu[-2]
    torch.nn.init.uniform_(last.weight, -SMALL_WEIGHT, SMALL_WEIGHT)
    torch.nn.init.constant_(last.bias, float(np.arctanh(np.clip(2.0 * share - 1.0, -0.99, 0.99))))
    agent.actor_target.load_state_dict(agent.actor.state_dict())


def truncated_normal(mean: float, deviation: float, rng: np.random.Generator) -> float:
    """Draw from a normal distribution cut off outside [0, 1]."""
    low, high = ndtr((0.0 - mean) / deviation), ndtr((1.0 - mean) / deviation)
    drawn = mean + deviation * float(ndtri(low + (high - low) * rng.random()))
    return float(np.clip(drawn, 0.0, 1.0))


@contextmanager
def _isolated(seed: int) -> Iterator[None]:
    """Global random state seeded, for stable-baselines3 draws from it, and put back afterwards."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002
