"""A policy of tokens: a renderer around an engine. What was sampled is kept as it was, and is what is trained on."""

from __future__ import annotations

from collections.abc import Mapping

from banty.chat import Conversation, Renderer
from banty.errors import InputError
from banty.models.loading import LanguageModel, Published
from banty.perf import Usage
from banty.policies.engine import LocalEngine, TokenRequest
from banty.records import Capability, Completion, SampleRequest, Segment, Transform


class TokenPolicy:
    """Answers conversations with a language model through an engine.

    `max_tokens` caps an answer for which the request sets no cap.
    """

    capabilities: frozenset[Capability] = frozenset({"ids", "logprobs", "features", "publish"})

    def __init__(self, engine: LocalEngine, renderer: Renderer, *, name: str = "", max_tokens: int = 512) -> None:
        if max_tokens < 1:
            raise InputError(f"max_tokens is {max_tokens}; it takes at least 1")
        self.name = name or engine.model.name
        self.engine = engine
        self.renderer = renderer
        self.max_tokens = max_tokens
        self._conversations: dict[str, Conversation] = {}

    @classmethod
    def of(cls, model: LanguageModel, *, name: str = "", max_tokens: int = 512) -> TokenPolicy:
        """The model in this process, with its own tokenizer and template."""
        return cls(
            LocalEngine(model, name=name or model.name), Renderer(model.tokenizer), name=name, max_tokens=max_tokens
        )

    def called(self, name: str) -> TokenPolicy:
        """The same model, engine and template under another name, such as one that an evaluation shows."""
        return TokenPolicy(self.engine, self.renderer, name=name, max_tokens=self.max_tokens)

    def capped(self, max_tokens: int) -> TokenPolicy:
        """The same model, engine and template under another cap."""
        return TokenPolicy(self.engine, self.renderer, name=self.name, max_tokens=max_tokens)

    def load(self, weights: Published) -> None:
        """Sample from these weights from the next turn on."""
        if weights.model is not self.engine.model:
            raise InputError(
                f"{weights.model.name} is not the model this engine samples from, {self.engine.model.name}"
            )
        self.engine.load(weights.version)

    def usage(self) -> Mapping[str, Usage]:
        return self.engine.usage()

    async def sample(self, request: SampleRequest) -> Completion:
        conversation = self._conversations.get(request.session) or self.renderer.conversation()
        self._conversations[request.session] = conversation
        prompt = conversation.prompt(request.messages, request.tools)
        params = request.params
        generated = await self.engine.generate(
            TokenRequest(
                session=request.session,
                ids=prompt.ids,
                stop_ids=frozenset(self.renderer.stop_ids),
                params=params,
                max_tokens=params.max_tokens or self.max_tokens,
                feature_layers=request.feature_layers,
                gate=request.gate,
            )
        )
        message = conversation.sampled(generated.ids, generated.complete)
        transform = Transform(params.temperature, params.top_p, params.top_k, params.min_p)
        return Completion(
            message,
            Segment(prompt.new_ids, generated.ids, generated.logprobs, prompt.continues, transform),
            version=generated.version,
            finish="stop" if generated.complete else "length",
            prompt_tokens=len(prompt.ids),
            sampled_tokens=len(generated.ids),
            features=generated.features,
        )

    async def release(self, session: str) -> None:
        self._conversations.pop(session, None)
        await self.engine.release(session)
