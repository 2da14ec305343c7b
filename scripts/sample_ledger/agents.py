"""The agents of the sample: invented services with invented names, prices and owners."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from solders.pubkey import Pubkey

from .addresses import CREDIT, DOLLAR, EURO, Mint, address

# Name, what it does, capabilities, price in thousandths of a dollar.
_SERVICES = (
    ("Tideline", "Hourly marine and coastal forecasts for any harbour", "weather forecast", 4),
    ("Quillwort", "Edits and proofreads text in eleven languages", "writing editing", 30),
    ("Ledgerlamp", "Explains a wallet's history in plain words", "analytics wallets", 12),
    ("Moonsnail", "Summaries of long papers with quoted passages", "research summaries", 45),
    ("Kittiwake", "Fresh headlines by region and topic", "news search", 2),
    ("Bladderwrack", "Scores contracts for known rug-pull patterns", "security contracts", 60),
    ("Fathom", "Order-book depth across venues", "market-data prices", 3),
    ("Gannet", "Finds cheap flights and watches their fares", "travel search", 25),
    ("Samphire", "Recipes for what is in the fridge", "food recipes", 8),
    ("Cuttlebone", "Turns sketches into clean vector drawings", "images vectors", 120),
    ("Driftglass", "Image generation with house styles", "images generation", 80),
    ("Periwinkle", "Speech to text with speaker names", "audio transcription", 50),
    ("Shearwater", "Routes parcels over carriers by price and day", "logistics quotes", 15),
    ("Sandpiper", "Answers questions about a public code repository", "code search", 20),
    ("Turnstone", "Reviews pull requests for common faults", "code review", 150),
    ("Bittern", "Translations of legal text, clause by clause", "translation legal", 200),
    ("Oystercatcher", "Checks e-mail addresses and domains", "verification email", 1),
    ("Limpet", "Keeps a page pinned and tells when it changes", "monitoring web", 1),
    ("Barnacle", "Cheap key-value storage for agents", "storage cache", 1),
    ("Nautilus", "Long-term memory for conversations", "memory storage", 5),
    ("Anemone", "Classifies support tickets", "classification support", 6),
    ("Cormorant", "Dives into company registers", "registers companies", 90),
    ("Grebe", "Geocoding, both ways", "maps geocoding", 2),
    ("Plover", "Short links with statistics", "links analytics", 1),
    ("Seagrass", "Carbon estimates for shipments and travel", "carbon estimates", 18),
    ("Ruff", "Lints and formats code in the cloud", "code formatting", 3),
    ("Sanderling", "Small, fast language-model completions", "text completion", 2),
    ("Kelpie", "Large language-model completions by the answer", "text completion", 35),
    ("Redshank", "Tests an API and reports what broke", "testing api", 40),
    ("Whimbrel", "Bird calls named from a recording", "audio classification", 7),
    ("Dunlin", "Tick data for tokens, by the minute", "market-data history", 5),
    ("Godwit", "Best route for a token swap, not the swap itself", "market-data routing", 4),
    ("Curlew", "Calls a phone and reads a message", "telephony voice", 110),
    ("Teal", "Sends a text message", "telephony sms", 55),
    ("Eider", "Renders HTML to PDF", "documents pdf", 9),
    ("Smew", "Reads invoices into fields", "documents extraction", 28),
    ("Pochard", "Redacts names and numbers from documents", "documents privacy", 32),
    ("Goldeneye", "Watches an address and warns of odd transfers", "security monitoring", 11),
    ("Merganser", "Joins and cleans small tables", "data cleaning", 14),
    ("Fulmar", "Scrapes a page politely", "web extraction", 3),
    ("Petrel", "Proxy for agents behind strict networks", "web proxy", 1),
    ("Skua", "Bids in public auctions for you", "auctions bidding", 500),
    ("Puffin", "Names for projects, with free domains", "naming domains", 65),
    ("Guillemot", "Plans a week of meals and its shopping list", "food planning", 22),
    ("Razorbill", "Cuts video to its highlights", "video editing", 900),
    ("Auk", "Upscales old photographs", "images upscaling", 75),
    ("Tern", "Timetables for buses, trains and ferries", "travel timetables", 2),
    ("Noddy", "Random numbers with a proof", "randomness proofs", 1),
    ("Brant", "Tax estimates for crypto income", "tax estimates", 250),
    ("Knot", "Directory of agents that answer today", "directory search", 1),
)


@dataclass(frozen=True)
class Agent:
    """One service; `price` is in base units of `mint`."""

    number: int
    name: str
    description: str
    capabilities: tuple[str, ...]
    mint: Mint
    price: int
    launched: int  # day of the sample on which it opens
    popularity: float
    sponsors: bool  # pays the fees of its own payments
    x402: bool
    ghost: bool  # nobody has claimed it
    reputation: int  # basis points

    @property
    def address(self) -> Pubkey:
        return address(f"agent/{self.number}")

    @property
    def owner(self) -> Pubkey | None:
        # Some owners run two agents.
        return None if self.ghost else address(f"owner/{self.number % 43}")

    @property
    def pay_to_name(self) -> str:
        return f"payto/{self.number}"

    @property
    def pay_to(self) -> Pubkey:
        return address(self.pay_to_name)


def make_agents(random: Random) -> list[Agent]:
    """Return the sample's agents; the order of popularity is not the order of the list."""
    ranks = list(range(1, len(_SERVICES) + 1))
    random.shuffle(ranks)
    agents = []
    for number, (name, description, capabilities, thousandths) in enumerate(_SERVICES):
        mint = CREDIT if number % 13 == 7 else EURO if number % 6 == 3 else DOLLAR
        price = thousandths * 10 ** (mint.decimals - 3)
        agents.append(
            Agent(
                number=number,
                name=name,
                description=description,
                capabilities=tuple(capabilities.split()),
                mint=mint,
                price=price,
                launched=0 if random.random() < 0.6 else random.randrange(1, 50),
                popularity=1 / (ranks[number] + 0.5),
                sponsors=number % 10 == 4,
                x402=number % 25 != 24,
                ghost=number % 7 == 6,
                reputation=random.randrange(5200, 9900),
            )
        )
    return agents
